package cloudtlv_test

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/cloudtlv"
)

// wireCases are TLVs and what they say, in the order of readers; "" where they say nothing.
var wireCases = []struct {
	name string
	tlvs string
	want [6]string
}{
	{"none", "", [6]string{}},
	{"AWS", "ea 0017 01" + text("vpce-08d2bf15fac5001c9"), [6]string{0: "vpce-08d2bf15fac5001c9"}},
	{"AWS behind others", "03 0004 00000000 ea 0002 0278 ea 0007 01" + text("vpce-1"), [6]string{0: "vpce-1"}},
	{"AWS, the first of two", "ea 0003 01" + text("v1") + "ea 0003 01" + text("v2"), [6]string{0: "v1"}},
	{"AWS, another subtype", "ea 0017 02" + text("vpce-08d2bf15fac5001c9"), [6]string{}},
	{"AWS, empty ID", "ea 0001 01", [6]string{}},
	{"AWS, empty", "ea 0000", [6]string{}},

	{"Google", "e0 0008 0123456789abcdef", [6]string{1: "81985529216486895"}},
	{"Google, top bit", "e0 0008 ffffffffffffffff", [6]string{1: "18446744073709551615"}},
	{"Google, zero", "e0 0008 0000000000000000", [6]string{1: "0"}},
	{"Google, 7 bytes", "e0 0007 01234567 89abcd", [6]string{}},
	{"Google, 9 bytes", "e0 0009 0123456789abcdef00", [6]string{}},
	{"Google, empty", "e0 0000", [6]string{}},

	{"Azure", "ee 0005 01 c0450020", [6]string{2: "536888768"}},
	{"Azure, top bit", "ee 0005 01 ffffffff", [6]string{2: "4294967295"}},
	{"Azure, zero", "ee 0005 01 00000000", [6]string{2: "0"}},
	{"Azure, another subtype", "ee 0005 02 c0450020", [6]string{}},
	{"Azure, 3 bytes", "ee 0004 01 c04500", [6]string{}},
	{"Azure, 5 bytes", "ee 0006 01 c045002000", [6]string{}},
	{"Azure, subtype only", "ee 0001 01", [6]string{}},
	{"Azure, empty", "ee 0000", [6]string{}},

	{
		"Alibaba, all three",
		"e1 0008 01" + text("vpc-abc") + "e1 0007 02" + text("ep-abc") + "e1 000a 03" + text("epsrv-abc"),
		[6]string{3: "vpc-abc", 4: "ep-abc", 5: "epsrv-abc"},
	},
	{"Alibaba, endpoint only", "e1 0007 02" + text("ep-abc"), [6]string{4: "ep-abc"}},
	{"Alibaba, another subtype", "e1 0007 04" + text("ep-abc"), [6]string{}},
	{"Alibaba, empty IDs", "e1 0001 01 e1 0001 02 e1 0001 03", [6]string{}},
	{"Alibaba, empty", "e1 0000", [6]string{}},

	{"cut off", "ea 0017 01" + text("vpce"), [6]string{}},
	{"not TLVs", "ea", [6]string{}},
}

// readers are the package's functions, each giving what it found as text.
var readers = [6]func(proxyproto.TLVs) string{
	bytesReader(cloudtlv.AWSVPCEndpointID),
	numberReader(cloudtlv.GooglePSCConnectionID),
	numberReader(cloudtlv.AzureLinkID),
	bytesReader(cloudtlv.AlibabaVPCID),
	bytesReader(cloudtlv.AlibabaEndpointID),
	bytesReader(cloudtlv.AlibabaEndpointServiceID),
}

func bytesReader(read func(proxyproto.TLVs) ([]byte, bool)) func(proxyproto.TLVs) string {
	return func(t proxyproto.TLVs) string {
		id, ok := read(t)
		if !ok {
			return ""
		}
		return cmp.Or(string(id), "an empty ID")
	}
}

func numberReader[N uint32 | uint64](read func(proxyproto.TLVs) (N, bool)) func(proxyproto.TLVs) string {
	return func(t proxyproto.TLVs) string {
		id, ok := read(t)
		if !ok {
			return ""
		}
		return fmt.Sprint(id)
	}
}

func text(s string) string { return hex.EncodeToString([]byte(s)) }

func unhex(t testing.TB, s string) proxyproto.TLVs {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

func TestReaders(t *testing.T) {
	for _, c := range wireCases {
		t.Run(c.name, func(t *testing.T) {
			tlvs := unhex(t, c.tlvs)
			for i, read := range readers {
				assert.Equal(t, c.want[i], read(tlvs), "reader %d", i)
			}
		})
	}
}

func TestNoAllocs(t *testing.T) {
	for _, c := range wireCases {
		tlvs := unhex(t, c.tlvs)
		allocs := testing.AllocsPerRun(100, func() {
			cloudtlv.AWSVPCEndpointID(tlvs)
			cloudtlv.GooglePSCConnectionID(tlvs)
			cloudtlv.AzureLinkID(tlvs)
			cloudtlv.AlibabaVPCID(tlvs)
			cloudtlv.AlibabaEndpointID(tlvs)
			cloudtlv.AlibabaEndpointServiceID(tlvs)
		})
		assert.Zero(t, allocs, c.name)
	}
}

// FuzzReaders holds the readers against a second, plain reading of the same bytes.
func FuzzReaders(f *testing.F) {
	for _, c := range wireCases {
		f.Add([]byte(unhex(f, c.tlvs)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var want [6]string
		var seen [6]bool
		see := func(i int, ok bool, s string) {
			if !seen[i] && ok {
				want[i] = s
			}
			seen[i] = true
		}
		for rest := b; len(rest) >= 3; {
			end := 3 + int(rest[1])<<8 + int(rest[2])
			if end > len(rest) {
				break
			}
			typ, v := rest[0], rest[3:end]
			rest = rest[end:]
			switch {
			case typ == 0xE0:
				n := uint64(0)
				for _, c := range v {
					n = n<<8 | uint64(c)
				}
				see(1, len(v) == 8, fmt.Sprint(n))
			case len(v) == 0:
			case typ == 0xEA && v[0] == 1:
				see(0, true, string(v[1:]))
			case typ == 0xEE && v[0] == 1:
				n := uint32(0)
				for i := len(v) - 1; i > 0; i-- {
					n = n<<8 | uint32(v[i])
				}
				see(2, len(v) == 5, fmt.Sprint(n))
			case typ == 0xE1 && v[0] >= 1 && v[0] <= 3:
				see(2+int(v[0]), true, string(v[1:]))
			}
		}
		for i, read := range readers {
			assert.Equal(t, want[i], read(b), "reader %d", i)
		}
	})
}
