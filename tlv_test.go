package proxyproto

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/internal/testenv"
	"github.com/seed2e8fe8ee/proxyproto/internal/wiretest"
)

func TestTLVTypeString(t *testing.T) {
	for typ, want := range map[TLVType]string{
		0x00: "0x0", TypeALPN: "ALPN", TypeAuthority: "AUTHORITY", TypeCRC32C: "CRC32C",
		TypeNoop: "NOOP", TypeUniqueID: "UNIQUE_ID", 0x06: "0x6", 0x1f: "0x1f", TypeSSL: "SSL",
		SubtypeSSLVersion: "SSL_VERSION", SubtypeSSLCN: "SSL_CN", SubtypeSSLCipher: "SSL_CIPHER",
		SubtypeSSLSigAlg: "SSL_SIG_ALG", SubtypeSSLKeyAlg: "SSL_KEY_ALG",
		SubtypeSSLGroup: "SSL_GROUP", SubtypeSSLSigScheme: "SSL_SIG_SCHEME",
		SubtypeSSLClientCert: "SSL_CLIENT_CERT", 0x29: "0x29", TypeNetNS: "NETNS",
		0x31: "0x31", TypeMinCustom: "0xe0", TypeMaxFuture: "0xff",
	} {
		assert.Equal(t, want, typ.String())
	}
}

// collect has the types and values of t in a text.
func collect(t TLVs) string {
	var all strings.Builder
	for typ, value := range t.All() {
		all.WriteString(typ.String() + "=" + string(value) + " ")
	}
	return all.String()
}

func TestTLVsSetAndWithout(t *testing.T) {
	tlv := wiretest.TLV
	many := tlv(0x01, "h2") + tlv(0xe0, "a") + tlv(0x01, "h3") + tlv(0x02, "") + tlv(0xe0, "b")
	for _, c := range []struct {
		name, t, set, without string
	}{
		{"none", "", "ALPN=new ", ""},
		{"another", tlv(0x02, "x"), "AUTHORITY=x ALPN=new ", "AUTHORITY=x "},
		{"one", tlv(0x01, "h2"), "ALPN=new ", ""},
		{"several", many, "0xe0=a AUTHORITY= 0xe0=b ALPN=new ", "0xe0=a AUTHORITY= 0xe0=b "},
		{"the end is cut off", tlv(0x02, "x") + "\x05\x00\x09y", "AUTHORITY=x ALPN=new ",
			"AUTHORITY=x "},
	} {
		given := TLVs(c.t)
		set, err := given.Set(TypeALPN, []byte("new"))
		require.NoError(t, err, c.name)
		assert.Equal(t, c.set, collect(set), c.name)
		assert.Equal(t, c.without, collect(given.Without(TypeALPN)), c.name)
		assert.Equal(t, c.t, string(given), "%s: a copy", c.name)
	}
	given := TLVs(many)
	assert.Equal(t, "AUTHORITY= ", collect(given.Without(0x01, 0xe0, 0x77)))
	assert.Equal(t, many, string(given.Without()))

	// A copy shares nothing, with room behind t or without; and a value may be t's own.
	room := append(make(TLVs, 0, 256), many...)
	value, ok := room.Lookup(0xe0)
	require.True(t, ok)
	set, err := room.Set(TypeALPN, value)
	require.NoError(t, err)
	kept := room.Without(0x02)
	clear(room[:cap(room)])
	assert.Equal(t, "0xe0=a AUTHORITY= 0xe0=b ALPN=a ", collect(set))
	assert.Equal(t, "ALPN=h2 0xe0=a ALPN=h3 0xe0=b ", collect(kept))

	full := make(TLVs, 65535-3)
	set, err = full.Set(TypeNoop, []byte{1})
	assert.ErrorContains(t, err, "65535 bytes")
	assert.Nil(t, set)
	set, err = full.Set(TypeNoop, nil)
	assert.NoError(t, err)
	assert.Len(t, set, 65535)
	big := TLVs(tlv(0x04, strings.Repeat("x", 65535-3)))
	set, err = big.Set(TypeNoop, []byte("small"))
	require.NoError(t, err, "what goes makes room")
	assert.Equal(t, "NOOP=small ", collect(set))
}

func TestTLVsAppend(t *testing.T) {
	var tlvs TLVs
	tlvs, err := tlvs.Append(TypeALPN, []byte("h2"))
	require.NoError(t, err)
	assert.Equal(t, wiretest.TLV(0x01, "h2"), string(tlvs))
	full := make(TLVs, 65535-3-300)
	got, err := full.Append(TypeNoop, make([]byte, 300))
	require.NoError(t, err)
	assert.Len(t, got, 65535)
	assert.Equal(t, []byte{0x04, 0x01, 0x2c}, []byte(got[len(full):len(full)+3]))
	got, err = full.Append(TypeNoop, make([]byte, 301))
	assert.ErrorContains(t, err, "65535 bytes")
	assert.Equal(t, full, got)
}

// Of two TLVs whose types are to be there once neither is believed: other readers take the one or
// the other, and one of the two may be the word of the hop before.
func TestTLVsSaidTwice(t *testing.T) {
	for typ, lookup := range map[byte]func(TLVs) ([]byte, bool){
		0x01: TLVs.ALPN, 0x02: TLVs.Authority, 0x05: TLVs.UniqueID, 0x30: TLVs.NetNS,
	} {
		one, other := wiretest.TLV(typ, "one"), wiretest.TLV(0xe0, "x")
		value, ok := lookup(TLVs(other + one + other))
		assert.True(t, ok)
		assert.Equal(t, "one", string(value))
		for _, second := range []string{"one", "two", ""} {
			value, ok = lookup(TLVs(one + other + wiretest.TLV(typ, second)))
			assert.False(t, ok, "%#x %q", typ, second)
			assert.Nil(t, value)
		}
		value, ok = TLVs(one + wiretest.TLV(typ, "two")).Lookup(TLVType(typ))
		assert.True(t, ok)
		assert.Equal(t, "one", string(value), "Lookup's is the first")
	}
	admin := wiretest.SSL(0x07, 0, wiretest.TLV(0x22, "admin"))
	unverified := wiretest.SSL(0x07, 18, wiretest.TLV(0x22, "guest"))
	for _, both := range []string{admin + unverified, unverified + admin, admin + admin} {
		s, ok := TLVs(both).SSL()
		assert.False(t, ok)
		assert.False(t, s.Verified())
		_, ok = s.CommonName()
		assert.False(t, ok)
	}
}

func TestTLVsAllocs(t *testing.T) {
	if testenv.Race {
		t.Skip("the race detector allocates")
	}
	for _, row := range wiretest.Rows() {
		tlvs, n := TLVs(row.Want.TLVs), 0
		assert.Zero(t, testing.AllocsPerRun(2, func() {
			for _, value := range tlvs.All() {
				n += len(value)
			}
			value, _ := tlvs.Lookup(TypeMaxFuture)
			n += len(value)
		}), row.Name)
	}
}

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
	subName    = "cl\u00efent.example" // what subCN says
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
	{"only its name", "01 00000000" + subVersion + subCN + subCert, true, false, "", ""},
	{"verified", "07 00000000" + subVersion + subCN, true, true, subName, ""},
	{"verified on this connection", "03 00000000" + subVersion + subCN, true, true, subName, ""},
	{"verified, resumed", "05 00000000" + subVersion + subCN, true, true, subName, ""},
	{"verified, with certificate", "07 00000000" + subVersion + subCN + subCert, true, true,
		subName, "0\x02\x05\x00"},
	{"verified, of two names none", "07 00000000" + subCN + "22 0001 78", true, true, "", ""},
	{"verified, of two certificates none", "03 00000000" + subCert + subCert, true, true, "", ""},
	{"verified, an old encoding", "03 00000000" + "22 0004 0072006f", true, true, "", ""},
	{"verified, a zero byte", "03 00000000" + "22 0006 726f6f740078", true, true, "", ""},
	{"verified, not UTF-8", "03 00000000" + "22 0004 e9726f74", true, true, "", ""},
	{"verified, a line end", "03 00000000" + "22 0005 726f6f740a", true, true, "", ""},
	{"verified, right to left", "03 00000000" + "22 0007 726f6f74e280ae", true, true, "", ""},
	{"verified, a space and the replacement", "03 00000000" + "22 0005 6120efbfbd", true, true,
		"a \ufffd", ""},
	{"verified, an empty name", "03 00000000" + "22 0000", true, true, "", ""},
	{"verified, nothing else", "07 00000000", true, true, "", ""},
	{"self-signed, let in", "07 00000012" + subVersion + subCN + subCert, true, false, "", ""},
	{"verify in the top byte", "07 01000000" + subVersion + subCN + subCert, true, false, "", ""},
	{"certificate without TLS", "06 00000000" + subVersion + subCN + subCert, false, false, "", ""},
	{"unknown flags only", "f8 00000000" + subVersion + subCN, false, false, "", ""},
	{"verified and unknown flags", "ff 00000000" + subVersion + subCN, true, true, subName, ""},
}

func sslTLVs(t testing.TB, value string) TLVs {
	t.Helper()
	tlvs, err := TLVs(nil).Append(TypeALPN, []byte("h2"))
	require.NoError(t, err)
	tlvs, err = tlvs.Append(TypeSSL, []byte(wiretest.Hex(value)))
	require.NoError(t, err)
	return tlvs
}

func TestSSL(t *testing.T) {
	for _, c := range sslCases {
		t.Run(c.name, func(t *testing.T) {
			value := []byte(wiretest.Hex(c.value))
			s, ok := sslTLVs(t, c.value).SSL()
			require.True(t, ok)

			assert.Equal(t, ClientFlags(value[0]), s.Client)
			assert.Equal(t, binary.BigEndian.Uint32(value[1:]), s.Verify)
			assert.Equal(t, TLVs(value[5:]), s.TLVs)
			assert.Equal(t, c.tls, s.TLS())
			assert.Equal(t, c.verified, s.Verified())

			cn, ok := s.CommonName()
			assert.Equal(t, c.cn, string(cn))
			assert.Equal(t, c.cn != "" || c.name == "verified, an empty name", ok)
			cert, ok := s.ClientCert()
			assert.Equal(t, c.cert, string(cert))
			assert.Equal(t, c.cert != "", ok)
		})
	}
}

func TestSSLMissing(t *testing.T) {
	for name, tlvs := range map[string]TLVs{
		"no TLVs":                    nil,
		"others":                     TLVs("\x01\x00\x02h2"),
		"one inside an SSL TLV only": TLVs("\x21\x00\x07\x20\x00\x05\x07\x00\x00\x00"),
		"4 bytes":                    TLVs("\x20\x00\x04\x07\x00\x00\x00"),
		"cut off":                    TLVs("\x20\x00\x05\x07\x00\x00\x00"),
	} {
		s, ok := tlvs.SSL()
		assert.False(t, ok, name)
		assert.Zero(t, s, name)
		assert.False(t, s.TLS(), name)
		assert.False(t, s.Verified(), name)
	}
}

// TestTypedTLVs reads everything out of what HAProxy sends.
func TestTypedTLVs(t *testing.T) {
	b := []byte(wiretest.Hex(sslHAProxy))
	h, n, err := Parse(b)
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
	inside := TLVs(strings.ReplaceAll(
		"\x21=a\x22=b\x23=c\x24=d\x25=e\x26=f\x27=g\x28=h", "=", "\x00\x01"))
	s = SSL{Client: ClientSSL | ClientCertConn, TLVs: inside}
	got := ""
	for _, lookup := range []lookup{
		s.Version, s.CommonName, s.Cipher, s.SigAlg, s.KeyAlg, s.Group, s.SigScheme, s.ClientCert,
	} {
		value, _ := lookup()
		got += string(value)
	}
	assert.Equal(t, "abcdefgh", got)
	netns, ok := TLVs("\x30\x00\x04blue").NetNS()
	assert.True(t, ok)
	assert.Equal(t, "blue", string(netns))
}

func TestTypedTLVsNoAllocs(t *testing.T) {
	verified := sslTLVs(t, "07 00000000"+subVersion+subCN+subCert)
	haproxy := []byte(wiretest.Hex(sslHAProxy))
	buf := make(TLVs, 0, 256)
	for name, f := range map[string]func(){
		"look up": func() {
			h, _, _ := Parse(haproxy)
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
			before := TLVs("\x01\x00\x02h2")
			got, err := s.AppendTo(before)
			if s.Verify == 0 && !c.verified {
				assert.ErrorContains(t, err, "without a client certificate")
				assert.Equal(t, before, got)
				s.Verify = Unverified
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
	ok := SSL{Client: ClientSSL, Verify: Unverified}
	ok.TLVs = make(TLVs, 0, 1<<16)
	ok.TLVs, _ = ok.TLVs.Append(SubtypeSSLVersion, make([]byte, 65535-3-5-3))
	full, err := ok.AppendTo(nil)
	require.NoError(t, err)
	assert.Len(t, full, 65535)

	for name, c := range map[string]struct {
		s  SSL
		to TLVs
	}{
		"nothing said":       {},
		"cut off inside":     {s: SSL{Verify: 1, TLVs: TLVs("\x21\x00\x02x")}},
		"half a head inside": {s: SSL{Verify: 1, TLVs: TLVs("\x21\x00")}},
		"no room":            {s: ok, to: TLVs("\x04\x00\x00")},
		"no room for itself": {s: SSL{Verify: 1}, to: full},
	} {
		got, err := c.s.AppendTo(c.to)
		assert.ErrorContains(t, err, "can't write header", name)
		assert.Equal(t, c.to, got, name)
	}
}
