package proxyproto_test

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// sslHAProxy is a header as HAProxy 2.6.12 sends it with proxy-v2-options
// ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority,crc32c,unique-id for a client over TLS
// without a certificate.
const sslHAProxy = "0d0a0d0a000d0a515549540a 2111 0078 7f000001 7f000001 b390 4719" +
	"03 0004 7739132c" +
	"01 0002 6832" +
	"02 000b 7777772e6578616d706c65" +
	"05 000d 37463030303030313a42333930" +
	"20 003f 01 00000000" +
	"21 0007 544c5376312e33" +
	"25 0007 52534132303438" +
	"24 000a 5253412d534841323536" +
	"23 0016 544c535f4145535f3235365f47434d5f534841333834"

// The TLVs inside the SSL TLVs of sslCases.
const (
	subVersion = "21 0007 544c5376312e33"
	subCN      = "22 000f 636cc3af656e742e6578616d706c65"
	subCert    = "28 0004 30020500"
)

var sslCases = []struct {
	name     string
	value    string // of the SSL TLV
	tls      bool
	verified bool
	cn       string // what CommonName returns
	cert     string // what ClientCert returns
}{
	{"HAProxy, no TLS", "00 00000000", false, false, "", ""},
	{"HAProxy, no certificate", "01 00000000" + subVersion, true, false, "", ""},
	{"as the spec says, no certificate", "01 00000001" + subVersion, true, false, "", ""},
	{"no certificate, but its name", "01 00000000" + subVersion + subCN + subCert, true, false, "", ""},
	{"verified", "07 00000000" + subVersion + subCN, true, true, "cl\u00efent.example", ""},
	{"verified on this connection", "03 00000000" + subVersion + subCN, true, true, "cl\u00efent.example", ""},
	{"verified, resumed", "05 00000000" + subVersion + subCN, true, true, "cl\u00efent.example", ""},
	{"verified, with certificate", "07 00000000" + subVersion + subCN + subCert, true, true, "cl\u00efent.example", "0\x02\x05\x00"},
	{"verified, of two names the first", "07 00000000" + subCN + "22 0001 78", true, true, "cl\u00efent.example", ""},
	{"verified, nothing else", "07 00000000", true, true, "", ""},
	{"self-signed, let in", "07 00000012" + subVersion + subCN + subCert, true, false, "", ""},
	{"verify in the top byte", "07 01000000" + subVersion + subCN + subCert, true, false, "", ""},
	{"certificate without TLS", "06 00000000" + subVersion + subCN + subCert, false, false, "", ""},
	{"unknown flags only", "f8 00000000" + subVersion + subCN, false, false, "", ""},
	{"verified and unknown flags", "ff 00000000" + subVersion + subCN, true, true, "cl\u00efent.example", ""},
}

func sslBytes(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

func sslTLVs(t testing.TB, value string) proxyproto.TLVs {
	t.Helper()
	tlvs, err := proxyproto.TLVs(nil).Append(proxyproto.TypeALPN, []byte("h2"))
	require.NoError(t, err)
	tlvs, err = tlvs.Append(proxyproto.TypeSSL, sslBytes(t, value))
	require.NoError(t, err)
	return tlvs
}

func TestSSL(t *testing.T) {
	for _, c := range sslCases {
		t.Run(c.name, func(t *testing.T) {
			value := sslBytes(t, c.value)
			s, ok := sslTLVs(t, c.value).SSL()
			require.True(t, ok)

			assert.Equal(t, proxyproto.ClientFlags(value[0]), s.Client)
			assert.Equal(t, binary.BigEndian.Uint32(value[1:]), s.Verify)
			assert.Equal(t, proxyproto.TLVs(value[5:]), s.TLVs)
			assert.Equal(t, c.tls, s.TLS())
			assert.Equal(t, c.verified, s.Verified())

			cn, ok := s.CommonName()
			assert.Equal(t, c.cn, string(cn))
			assert.Equal(t, c.cn != "", ok)
			cert, ok := s.ClientCert()
			assert.Equal(t, c.cert, string(cert))
			assert.Equal(t, c.cert != "", ok)
		})
	}
}

func TestSSLMissing(t *testing.T) {
	for name, tlvs := range map[string]proxyproto.TLVs{
		"no TLVs":                    nil,
		"others":                     proxyproto.TLVs("\x01\x00\x02h2"),
		"one inside an SSL TLV only": proxyproto.TLVs("\x21\x00\x07\x20\x00\x05\x07\x00\x00\x00"),
		"4 bytes":                    proxyproto.TLVs("\x20\x00\x04\x07\x00\x00\x00"),
		"cut off":                    proxyproto.TLVs("\x20\x00\x05\x07\x00\x00\x00"),
	} {
		s, ok := tlvs.SSL()
		assert.False(t, ok, name)
		assert.Zero(t, s, name)
		assert.False(t, s.TLS(), name)
		assert.False(t, s.Verified(), name)
	}
}

// TestSSLFirst: of two the first counts, as in Lookup.
func TestSSLFirst(t *testing.T) {
	tlvs := append(sslTLVs(t, "01 00000000"), sslTLVs(t, "07 00000000")...)
	s, ok := tlvs.SSL()
	require.True(t, ok)
	assert.False(t, s.Verified())
}

// TestTypedTLVs reads everything out of what HAProxy sends.
func TestTypedTLVs(t *testing.T) {
	b := sslBytes(t, sslHAProxy)
	h, n, err := proxyproto.Parse(b)
	require.NoError(t, err)
	require.Equal(t, len(b), n)
	s, ok := h.TLVs.SSL()
	require.True(t, ok)

	type lookup func() ([]byte, bool)
	for name, c := range map[string]struct {
		lookup lookup
		want   string
	}{
		"ALPN":      {h.TLVs.ALPN, "h2"},
		"Authority": {h.TLVs.Authority, "www.example"},
		"UniqueID":  {h.TLVs.UniqueID, "7F000001:B390"},
		"Version":   {s.Version, "TLSv1.3"},
		"Cipher":    {s.Cipher, "TLS_AES_256_GCM_SHA384"},
		"SigAlg":    {s.SigAlg, "RSA-SHA256"},
		"KeyAlg":    {s.KeyAlg, "RSA2048"},
	} {
		value, ok := c.lookup()
		assert.True(t, ok, name)
		assert.Equal(t, c.want, string(value), name)
	}
	for name, lookup := range map[string]lookup{
		"NetNS": h.TLVs.NetNS, "Group": s.Group, "SigScheme": s.SigScheme,
		"CommonName": s.CommonName, "ClientCert": s.ClientCert,
	} {
		value, ok := lookup()
		assert.False(t, ok, name)
		assert.Nil(t, value, name)
	}

	// What HAProxy doesn't send, and that no two of them read the same type.
	inside := proxyproto.TLVs(strings.ReplaceAll("\x21=a\x22=b\x23=c\x24=d\x25=e\x26=f\x27=g\x28=h", "=", "\x00\x01"))
	s = proxyproto.SSL{Client: proxyproto.ClientSSL | proxyproto.ClientCertConn, TLVs: inside}
	got := ""
	for _, lookup := range []lookup{
		s.Version, s.CommonName, s.Cipher, s.SigAlg, s.KeyAlg, s.Group, s.SigScheme, s.ClientCert,
	} {
		value, _ := lookup()
		got += string(value)
	}
	assert.Equal(t, "abcdefgh", got)
	netns, ok := proxyproto.TLVs("\x30\x00\x04blue").NetNS()
	assert.True(t, ok)
	assert.Equal(t, "blue", string(netns))
}

func TestTypedTLVsNoAllocs(t *testing.T) {
	verified := sslTLVs(t, "07 00000000"+subVersion+subCN+subCert)
	haproxy := sslBytes(t, sslHAProxy)
	buf := make(proxyproto.TLVs, 0, 256)
	for name, f := range map[string]func(){
		"look up": func() {
			h, _, _ := proxyproto.Parse(haproxy)
			h.TLVs.ALPN()
			h.TLVs.Authority()
			h.TLVs.UniqueID()
			h.TLVs.NetNS()
		},
		"SSL": func() {
			s, ok := verified.SSL()
			if !ok || !s.Verified() {
				t.Fatal("not found")
			}
			s.CommonName()
			s.ClientCert()
			s.Version()
			s.Cipher()
			s.SigAlg()
			s.KeyAlg()
			s.Group()
			s.SigScheme()
		},
		"SSL.AppendTo": func() {
			s, _ := verified.SSL()
			if _, err := s.AppendTo(buf); err != nil {
				t.Fatal(err)
			}
		},
	} {
		assert.Zero(t, testing.AllocsPerRun(100, f), name)
	}
}

func TestSSLAppendTo(t *testing.T) {
	for _, c := range sslCases {
		t.Run(c.name, func(t *testing.T) {
			tlvs := sslTLVs(t, c.value)
			s, ok := tlvs.SSL()
			require.True(t, ok)
			before := proxyproto.TLVs("\x01\x00\x02h2")
			got, err := s.AppendTo(before)
			if s.Verify == 0 && !c.verified {
				assert.ErrorIs(t, err, proxyproto.ErrMalformed)
				assert.Equal(t, before, got)
				s.Verify = proxyproto.Unverified
				got, err = s.AppendTo(before)
				require.NoError(t, err)
				s2, ok := got.SSL()
				assert.True(t, ok)
				assert.Equal(t, s, s2)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tlvs, got)
		})
	}
}

func TestSSLAppendToRefuses(t *testing.T) {
	ok := proxyproto.SSL{Client: proxyproto.ClientSSL, Verify: proxyproto.Unverified}
	ok.TLVs = make(proxyproto.TLVs, 0, 1<<16)
	ok.TLVs, _ = ok.TLVs.Append(proxyproto.SubtypeSSLVersion, make([]byte, 65535-3-5-3))
	full, err := ok.AppendTo(nil)
	require.NoError(t, err)
	assert.Len(t, full, 65535)

	for name, c := range map[string]struct {
		s  proxyproto.SSL
		to proxyproto.TLVs
	}{
		"nothing said":       {},
		"cut off inside":     {s: proxyproto.SSL{Verify: 1, TLVs: proxyproto.TLVs("\x21\x00\x02x")}},
		"half a head inside": {s: proxyproto.SSL{Verify: 1, TLVs: proxyproto.TLVs("\x21\x00")}},
		"no room":            {s: ok, to: proxyproto.TLVs("\x04\x00\x00")},
		"no room for itself": {s: proxyproto.SSL{Verify: 1}, to: full},
	} {
		got, err := c.s.AppendTo(c.to)
		assert.ErrorIs(t, err, proxyproto.ErrMalformed, name)
		assert.Equal(t, c.to, got, name)
	}
}

// FuzzSSL: what Parse accepts as an SSL TLV is read and written back unchanged, and a client is
// verified exactly when the bytes say so.
func FuzzSSL(f *testing.F) {
	for _, c := range sslCases {
		f.Add(sslBytes(f, c.value))
	}
	f.Add(sslBytes(f, "07 000000"))
	f.Add(sslBytes(f, "07 00000000 21 0007 54"))
	f.Fuzz(func(t *testing.T, value []byte) {
		if len(value) > 4096 {
			return
		}
		tlvs, err := proxyproto.TLVs(nil).Append(proxyproto.TypeSSL, value)
		require.NoError(t, err)
		s, ok := tlvs.SSL()
		assert.Equal(t, len(value) >= 5, ok)
		if !ok {
			return
		}
		assert.Equal(t, value[0]&1 != 0 && value[0]&6 != 0 && string(value[1:5]) == "\x00\x00\x00\x00", s.Verified())
		if cn, ok := s.CommonName(); ok {
			assert.True(t, s.Verified())
			assert.Contains(t, string(value), string(cn))
		}
		got, appendErr := s.AppendTo(nil)
		_, _, parseErr := proxyproto.Parse(header(tlvs))
		switch {
		case parseErr != nil:
			assert.Error(t, appendErr)
		case s.Verify == 0 && !s.Verified():
			assert.Error(t, appendErr)
		default:
			require.NoError(t, appendErr)
			assert.Equal(t, tlvs, got)
		}
	})
}

// header returns a version 2 header with the TLVs, which needn't be well-formed.
func header(tlvs proxyproto.TLVs) []byte {
	b := []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11")
	b = binary.BigEndian.AppendUint16(b, uint16(12+len(tlvs)))
	b = append(b, make([]byte, 12)...)
	return append(b, tlvs...)
}
