// Package cloudtlv reads what cloud providers say in a PROXY header's TLVs: through which of the
// customer's private endpoints a connection came. The provider tells several customers apart by
// it whose networks use the same private addresses.
//
//	if h := conn.Header(); h != nil {
//		id, ok := cloudtlv.AWSVPCEndpointID(h.TLVs)
//		...
//	}
//
// The providers took their types from the range that the PROXY protocol leaves to applications
// (section 2.2.8). Nobody registers these: the same bytes mean something else from another sender.
// Call the functions of the provider whose load balancer you trust to send the header, and no
// others. On connections that came another way, from the internet for example, the TLV is missing.
//
// The functions allocate nothing. Of several TLVs for the same thing the first counts; if it hasn't
// the form that the provider documents, or is empty, it counts as missing. A []byte that is
// returned aliases the TLVs.
package cloudtlv

import (
	"encoding/binary"

	"github.com/seed2e8fe8ee/proxyproto"
)

// Types of the providers' TLVs. In all but Google's the first byte of the value is a subtype.
const (
	TypeGoogle  proxyproto.TLVType = 0xE0
	TypeAlibaba proxyproto.TLVType = 0xE1
	TypeAWS     proxyproto.TLVType = 0xEA
	TypeAzure   proxyproto.TLVType = 0xEE
)

const (
	awsVPCEndpointID         = 0x01
	azureLinkID              = 0x01
	alibabaVPCID             = 0x01
	alibabaEndpointID        = 0x02
	alibabaEndpointServiceID = 0x03
)

// AWSVPCEndpointID returns the ID of the VPC endpoint through which the client came to a Network
// Load Balancer's endpoint service (PrivateLink), as in "vpce-08d2bf15fac5001c9", and whether
// there is one. It is US-ASCII.
//
// Source: https://docs.aws.amazon.com/elasticloadbalancing/latest/network/edit-target-group-attributes.html#proxy-protocol
func AWSVPCEndpointID(t proxyproto.TLVs) ([]byte, bool) {
	return text(t, TypeAWS, awsVPCEndpointID)
}

// GooglePSCConnectionID returns the ID of the Private Service Connect connection through which
// the client came, pscConnectionId in Google Cloud's API, and whether there is one.
//
// Source: https://cloud.google.com/vpc/docs/configure-private-service-connect-producer#proxy-protocol
func GooglePSCConnectionID(t proxyproto.TLVs) (uint64, bool) {
	value, ok := t.Lookup(TypeGoogle)
	if !ok || len(value) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(value), true
}

// AzureLinkID returns the link ID of the private endpoint through which the client came to a
// Private Link service, linkIdentifier in Azure's API, and whether there is one.
//
// Source: https://learn.microsoft.com/en-us/azure/private-link/private-link-service-overview#getting-connection-information-using-tcp-proxy-v2
func AzureLinkID(t proxyproto.TLVs) (uint32, bool) {
	value, ok := lookup(t, TypeAzure, azureLinkID)
	if !ok || len(value) != 4 {
		return 0, false
	}
	return binary.LittleEndian.Uint32(value), true
}

// AlibabaVPCID returns the ID of the VPC from which the client came to a Network Load Balancer,
// "vpc-" and so on, and whether there is one. Each of Alibaba Cloud's three IDs is a TLV of its own,
// and is sent only if the listener is told to.
//
// Source: https://www.alibabacloud.com/help/en/privatelink/obtain-real-client-information
func AlibabaVPCID(t proxyproto.TLVs) ([]byte, bool) {
	return text(t, TypeAlibaba, alibabaVPCID)
}

// AlibabaEndpointID returns the ID of the PrivateLink endpoint through which the client came,
// "ep-" and so on, and whether there is one.
//
// Source: https://www.alibabacloud.com/help/en/privatelink/obtain-real-client-information
func AlibabaEndpointID(t proxyproto.TLVs) ([]byte, bool) {
	return text(t, TypeAlibaba, alibabaEndpointID)
}

// AlibabaEndpointServiceID returns the ID of the PrivateLink endpoint service to which the client
// came, "epsrv-" and so on, and whether there is one.
//
// Source: https://www.alibabacloud.com/help/en/privatelink/obtain-real-client-information
func AlibabaEndpointServiceID(t proxyproto.TLVs) ([]byte, bool) {
	return text(t, TypeAlibaba, alibabaEndpointServiceID)
}

// lookup returns what follows the subtype in the first TLV that has both.
func lookup(t proxyproto.TLVs, typ proxyproto.TLVType, subtype byte) ([]byte, bool) {
	for typ2, value := range t.All() {
		if typ2 == typ && len(value) > 0 && value[0] == subtype {
			return value[1:], true
		}
	}
	return nil, false
}

// text is lookup for an ID that can't be empty.
func text(t proxyproto.TLVs, typ proxyproto.TLVType, subtype byte) ([]byte, bool) {
	id, ok := lookup(t, typ, subtype)
	if !ok || len(id) == 0 {
		return nil, false
	}
	return id, true
}
