package cloudtlv_test

import (
	"fmt"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/cloudtlv"
)

func Example() {
	// What an AWS Network Load Balancer sends for a client that comes through a VPC endpoint.
	header := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x26\x0a\x00\x00\x07\x0a\x00\x00\x63\xdc\x04\x01\xbb" +
		"\xea\x00\x17\x01vpce-08d2bf15fac5001c9"

	h, _, err := proxyproto.Parse([]byte(header))
	if err != nil {
		fmt.Println(err)
		return
	}
	if id, ok := cloudtlv.AWSVPCEndpointID(h.TLVs); ok {
		fmt.Printf("%v through %s\n", h.Source, id)
	}
	// Output: 10.0.0.7:56324 through vpce-08d2bf15fac5001c9
}

func ExampleGooglePSCConnectionID() {
	tlvs := proxyproto.TLVs("\xe0\x00\x08\x01\x23\x45\x67\x89\xab\xcd\xef")
	fmt.Println(cloudtlv.GooglePSCConnectionID(tlvs))
	// Output: 81985529216486895 true
}

func ExampleAzureLinkID() {
	tlvs := proxyproto.TLVs("\xee\x00\x05\x01\xc0\x45\x00\x20")
	fmt.Println(cloudtlv.AzureLinkID(tlvs))
	// Output: 536888768 true
}

func ExampleAlibabaVPCID() {
	tlvs := proxyproto.TLVs("\xe1\x00\x09\x02ep-12345\xe1\x00\x0a\x01vpc-12345")
	vpc, ok := cloudtlv.AlibabaVPCID(tlvs)
	fmt.Println(string(vpc), ok)
	// Output: vpc-12345 true
}
