package main

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/cloudtlv"
)

// tlv is a TLV for people and for scripts.
type tlv struct {
	Type  int    `json:"type"`
	Name  string `json:"name"`
	Hex   string `json:"hex"`
	Value string `json:"value,omitempty"` // the value if it is printable text
	Text  string `json:"text,omitempty"`  // what it means, if it isn't just text
	SSL   *ssl   `json:"ssl,omitempty"`
}

// words says what the value is: nothing if that isn't known.
func (d *tlv) words() string {
	if d.Text == "" && d.Value != "" {
		return strconv.Quote(d.Value)
	}
	return d.Text
}

// ssl is what an SSL TLV says.
type ssl struct {
	Client   int    `json:"client"`
	TLS      bool   `json:"tls"`
	Verify   uint32 `json:"verify"`
	Verified bool   `json:"verified"` // a client certificate was presented and verified
	TLVs     []tlv  `json:"tlvs,omitempty"`
}

// describeAll describes TLVs, and those inside an SSL TLV.
func describeAll(t proxyproto.TLVs) []tlv {
	all := describeEach(t)
	i := 0
	for typ, value := range t.All() {
		if s, ok := asSSL(typ, value); ok {
			all[i].SSL = &ssl{int(s.Client), s.TLS(), s.Verify, s.Verified(), describeEach(s.TLVs)}
		}
		i++
	}
	return all
}

func describeEach(t proxyproto.TLVs) []tlv {
	var all []tlv
	for typ, value := range t.All() {
		all = append(all, describe(typ, value))
	}
	return all
}

// describe describes one TLV, without those inside.
func describe(typ proxyproto.TLVType, value []byte) tlv {
	d := tlv{Type: int(typ), Name: typeName(typ), Hex: hex.EncodeToString(value)}
	if isText(value) {
		d.Value = string(value)
	}
	switch typ {
	case proxyproto.TypeCRC32C:
		d.Text = "0x" + d.Hex
	case proxyproto.TypeNoop:
		d.Text = strconv.Itoa(len(value)) + " bytes of padding"
	case proxyproto.TypeSSL:
		if s, ok := asSSL(typ, value); ok {
			d.Text = clientText(s) + "; verify " + verifyText(s)
		}
	case proxyproto.SubtypeSSLClientCert:
		d.Text = "not a certificate"
		if cert, err := x509.ParseCertificate(value); err == nil {
			d.Text = "of " + strconv.Quote(cert.Subject.String()) + ", issued by " +
				strconv.Quote(cert.Issuer.String())
		}
	default:
		d.Text = cloudText(single(typ, value))
	}
	return d
}

// typeName returns the name of a TLV's type, or its number and the range it is in.
func typeName(typ proxyproto.TLVType) string {
	number := fmt.Sprintf("0x%02X", uint8(typ))
	switch {
	case typ >= proxyproto.TypeMinFuture:
		return number + " (reserved)"
	case typ >= proxyproto.TypeMinExperiment:
		return number + " (experimental)"
	case typ >= proxyproto.TypeMinCustom:
		return number + " (custom)"
	}
	if name := typ.String(); !strings.HasPrefix(name, "0x") {
		return name
	}
	return number + " (unassigned)"
}

// asSSL reads the value of a TLV if that is one of SSL.
func asSSL(typ proxyproto.TLVType, value []byte) (proxyproto.SSL, bool) {
	if typ != proxyproto.TypeSSL {
		return proxyproto.SSL{}, false
	}
	return single(typ, value).SSL()
}

// single returns the TLVs that are but one.
func single(typ proxyproto.TLVType, value []byte) proxyproto.TLVs {
	t, err := proxyproto.TLVs(nil).Append(typ, value)
	if err != nil {
		return nil
	}
	return t
}

// cloudText says what a custom TLV means if it comes from a cloud, which its bytes alone don't
// tell.
func cloudText(t proxyproto.TLVs) string {
	if id, ok := cloudtlv.AWSVPCEndpointID(t); ok {
		return "if from AWS: VPC endpoint " + idText(id)
	}
	if id, ok := cloudtlv.GooglePSCConnectionID(t); ok {
		return fmt.Sprintf("if from Google Cloud: PSC connection %d", id)
	}
	if id, ok := cloudtlv.AzureLinkID(t); ok {
		return fmt.Sprintf("if from Azure: private endpoint's link ID %d", id)
	}
	if id, ok := cloudtlv.AlibabaVPCID(t); ok {
		return "if from Alibaba Cloud: VPC " + idText(id)
	}
	if id, ok := cloudtlv.AlibabaEndpointID(t); ok {
		return "if from Alibaba Cloud: endpoint " + idText(id)
	}
	if id, ok := cloudtlv.AlibabaEndpointServiceID(t); ok {
		return "if from Alibaba Cloud: endpoint service " + idText(id)
	}
	return ""
}

func clientText(s proxyproto.SSL) string {
	var said []string
	for _, flag := range []struct {
		bit  proxyproto.ClientFlags
		text string
	}{
		{proxyproto.ClientSSL, "TLS"},
		{proxyproto.ClientCertConn, "certificate on this connection"},
		{proxyproto.ClientCertSess, "certificate in this session"},
	} {
		if s.Client&flag.bit != 0 {
			said = append(said, flag.text)
		}
	}
	if rest := s.Client &^ (proxyproto.ClientSSL | proxyproto.ClientCertConn | proxyproto.ClientCertSess); rest != 0 {
		said = append(said, fmt.Sprintf("unknown flags 0x%02X", uint8(rest)))
	}
	if len(said) == 0 {
		return "no TLS"
	}
	return strings.Join(said, ", ")
}

// verifyErrors are OpenSSL's words for the results that proxies send most.
var verifyErrors = map[uint32]string{
	1: "unspecified", 9: "not yet valid", 10: "expired", 18: "self-signed",
	19: "self-signed certificate in the chain", 20: "issuer unknown",
	21: "first certificate can't be verified", 23: "revoked", 26: "unsuitable purpose",
}

func verifyText(s proxyproto.SSL) string {
	switch {
	case s.Verified():
		return "0, the client's certificate is verified"
	case s.Verify == 0:
		return "0, but there is no client certificate, and nothing is verified"
	}
	text := strconv.FormatUint(uint64(s.Verify), 10) + ", not verified"
	if reason, ok := verifyErrors[s.Verify]; ok {
		text += " (in OpenSSL's numbers " + reason + ")"
	}
	return text
}

func idText(id []byte) string {
	if isText(id) {
		return strconv.Quote(string(id))
	}
	return hex.EncodeToString(id)
}

// isText reports whether a value can be shown as text.
func isText(value []byte) bool {
	return utf8.Valid(value) && string(value) == printable(string(value))
}
