package proxyproto

import (
	"encoding"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"github.com/seed2e8fe8ee/proxyproto/internal/testenv"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func ask(p Policy, peer string) Action {
	if peer == "" {
		return p(Peer{})
	}
	return p(Peer{Addr: netip.AddrPortFrom(netip.MustParseAddr(peer), 1)})
}

func TestAlways(t *testing.T) {
	for _, action := range []Action{Reject, Require, Skip, Optional, Ignore} {
		assert.Equal(t, action, ask(Always(action), "10.0.0.1"))
		assert.Equal(t, action, ask(Always(action), ""))
	}
}

func TestParseTrust(t *testing.T) {
	for _, row := range []struct {
		prefixes  []string
		trusted   []string
		untrusted []string
	}{
		{nil, nil, []string{"10.0.0.1", "::1", ""}},
		{[]string{"10.0.0.0/8"}, []string{"10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"},
			[]string{"9.255.255.255", "11.0.0.0", "::", "::10.0.0.1", ""}},
		{[]string{"10.1.2.3/8"}, []string{"10.255.255.255"}, []string{"11.0.0.0"}},
		{[]string{"192.0.2.1"}, []string{"192.0.2.1", "::ffff:192.0.2.1"},
			[]string{"192.0.2.0", "192.0.2.2"}},
		{[]string{" 192.0.2.1", "192.0.2.3 "}, []string{"192.0.2.1", "192.0.2.3"},
			[]string{"192.0.2.2"}},
		{[]string{"::ffff:10.0.0.0/104"}, []string{"10.0.0.1", "::ffff:10.0.0.1"},
			[]string{"11.0.0.1"}},
		{[]string{"::ffff:192.0.2.1"}, []string{"192.0.2.1"}, []string{"192.0.2.2"}},
		{[]string{"0.0.0.0/0"}, []string{"0.0.0.0", "255.255.255.255", "::ffff:1.2.3.4"},
			[]string{"::1", "2001:db8::1", ""}},
		{[]string{"::/0"},
			[]string{"::", "2001:db8::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
				"fe80::1%eth0"},
			[]string{"10.0.0.1", "::ffff:10.0.0.1", ""}},
		{[]string{"::/0", "0.0.0.0/0"}, []string{"::", "10.0.0.1"}, []string{""}},
		{[]string{"fe80::/10"}, []string{"fe80::1", "fe80::1%eth0"}, []string{"fec0::1"}},
		{[]string{"2001:db8::/32", "2001:db8::1"}, []string{"2001:db8::1", "2001:db8:ffff::"},
			[]string{"2001:db9::"}},
		{[]string{"255.255.255.255"}, []string{"255.255.255.255"},
			[]string{"255.255.255.254", "::1:0:0:0"}},
	} {
		p, err := ParseTrust(row.prefixes...)
		require.NoError(t, err)
		for _, peer := range row.trusted {
			assert.Equal(t, Require, ask(p, peer), "%v: %s", row.prefixes, peer)
		}
		for _, peer := range row.untrusted {
			assert.Equal(t, Reject, ask(p, peer), "%v: %q", row.prefixes, peer)
		}
	}
	for _, bad := range []string{"", "10", "10.0.0.0/33", "10.0.0.256", "10.0.0.0/", "/8",
		"2001:db8::/129", "example.com", "fe80::1%eth0", "fe80::1%eth0/64", "10.0.0.1:80",
		"10.0.0.0/8,10.1.0.0/16",
		"::ffff:10.0.0.0/8", "::ffff:10.0.0.0/95"} {
		p, err := ParseTrust("10.0.0.0/8", bad)
		assert.Nil(t, p)
		assert.ErrorContains(t, err,
			`proxyproto: "`+bad+`" is neither an IP address nor a CIDR range`)
	}
}

func TestRules(t *testing.T) {
	rule := func(prefix string, action Action) Rule {
		return Rule{netip.MustParsePrefix(prefix),
			action}
	}
	p := Rules(Optional,
		rule("10.0.0.0/8", Require),
		rule("10.1.0.0/16", Skip),
		rule("10.1.2.0/24", Ignore),
		rule("10.1.2.3/32", Reject),
		rule("10.1.2.4/32", Reject),
		rule("10.1.2.4/32", Require), // the later of two counts
		rule("10.255.0.0/16", Skip),
		rule("2001:db8::/32", Require),
		rule("::/1", Ignore),
		rule("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", Skip),
	)
	for peer, want := range map[string]Action{
		"":                 Optional,
		"9.255.255.255":    Optional,
		"10.0.0.0":         Require,
		"10.0.255.255":     Require,
		"10.1.0.0":         Skip,
		"10.1.1.255":       Skip,
		"10.1.2.0":         Ignore,
		"10.1.2.2":         Ignore,
		"10.1.2.3":         Reject,
		"10.1.2.4":         Require,
		"10.1.2.5":         Ignore,
		"10.1.3.0":         Skip,
		"10.2.0.0":         Require,
		"10.255.255.255":   Skip,
		"11.0.0.0":         Optional,
		"::ffff:10.1.2.3":  Reject,
		"::":               Ignore,
		"::1%eth0":         Ignore,
		"::fffe:ffff:ffff": Ignore,
		"::1:0:0:0":        Ignore,
		"2001:db8::":       Require,
		"2001:db9::":       Ignore,
		"8000::":           Optional,
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": Skip,
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe": Optional,
	} {
		assert.Equal(t, want, ask(p, peer), "%q", peer)
	}
}

// slowRules is Rules as its doc comment says it, and no faster.
func slowRules(otherwise Action, rules []Rule, peer netip.Addr) Action {
	action, longest := otherwise, -1
	for _, r := range rules {
		prefix := r.Prefix
		if prefix.Addr().Is4In6() && prefix.Bits() >= 96 {
			prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
		}
		if prefix.Contains(peer.Unmap().WithZone("")) && prefix.Bits() >= longest {
			action, longest = r.Action, prefix.Bits()
		}
	}
	return action
}

func TestRulesAgainstSlowOnes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	// Few bits vary, so that prefixes nest and meet.
	addr := func() netip.Addr {
		var b [16]byte
		binary.BigEndian.PutUint32(b[12:], random.Uint32()&0xc0000003|random.Uint32()&0x0f000000)
		if random.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte(b[12:]))
		}
		switch random.IntN(3) {
		case 0:
			b[10], b[11] = 0xff, 0xff
		case 1:
			b[0] = byte(random.Uint32()) & 0x81
			b[7] = byte(random.Uint32()) & 1
			b[8] = byte(random.Uint32()) & 0x80
		}
		return netip.AddrFrom16(b)
	}
	for range 2000 {
		rules := make([]Rule, random.IntN(20))
		for i := range rules {
			a := addr()
			bits := random.IntN(a.BitLen() + 1)
			if a.Is4In6() && random.IntN(2) == 0 {
				bits = 96 + random.IntN(33)
			}
			if a.Is4In6() {
				bits = max(bits, 96)
			}
			rules[i] = Rule{netip.PrefixFrom(a, bits), Action(random.IntN(5))}
		}
		p := Rules(Require, rules...)
		for range 50 {
			peer := addr()
			require.Equal(t, slowRules(Require, rules, peer), ask(p, peer.String()), "%v of %v",
				peer, rules)
		}
	}
}

func TestPrefixesThatMeanNothing(t *testing.T) {
	for want, prefix := range map[string]netip.Prefix{
		"invalid prefix":     {},
		"is at least 96":     netip.MustParsePrefix("::ffff:10.0.0.0/8"),
		"write 10.0.0.0/n":   netip.MustParsePrefix("::ffff:10.0.0.0/95"),
		"for invalid Prefix": netip.PrefixFrom(netip.MustParseAddr("10.0.0.1"), 33),
	} {
		for _, try := range []func(){
			func() { Trust(prefix) },
			func() { Rules(Require, Rule{prefix, Skip}) },
		} {
			func() {
				defer func() { assert.ErrorContains(t, fmt.Errorf("%v", recover()), want) }()
				try()
			}()
		}
	}
	prefixes, err := ParsePrefixes("::ffff:10.1.2.3/104", " 2001:db8::1/32 ", "192.0.2.1")
	require.NoError(t, err)
	assert.Equal(t, "[10.0.0.0/8 2001:db8::/32 192.0.2.1/32]", fmt.Sprint(prefixes))
}

// Text forms go both ways, in lower case, and what isn't one is an error.
func TestTextForms(t *testing.T) {
	var config struct {
		Action   Action
		Versions []Version
		Rules    []Rule
		Dropped  map[Reason]uint64
	}
	const text = `{"Action":"optional","Versions":["v1","v2"],` +
		`"Rules":[{"prefix":"10.0.0.0/8","action":"require"}],"Dropped":{"late":3,"no header":1}}`
	require.NoError(t, json.Unmarshal([]byte(text), &config))
	assert.Equal(t, Optional, config.Action)
	assert.Equal(t, []Version{V1, V2}, config.Versions)
	assert.Equal(t, []Rule{{netip.MustParsePrefix("10.0.0.0/8"), Require}}, config.Rules)
	assert.Equal(t, map[Reason]uint64{ReasonLate: 3, ReasonNoHeader: 1}, config.Dropped)
	again, err := json.Marshal(config)
	require.NoError(t, err)
	assert.Equal(t, text, string(again))

	for a := Reject; a <= Ignore; a++ {
		b, err := a.MarshalText()
		require.NoError(t, err)
		assert.Equal(t, a.String(), string(b))
		var back Action
		require.NoError(t, back.UnmarshalText(b))
		assert.Equal(t, a, back)
	}
	for r := ReasonRejected; r < reasons; r++ {
		b, err := r.MarshalText()
		require.NoError(t, err)
		assert.Equal(t, r.String(), string(b))
		var back Reason
		require.NoError(t, back.UnmarshalText(b))
		assert.Equal(t, r, back)
	}
	for _, bad := range []string{"", "Require", "requires", "V1", "v3", "Late", "0"} {
		var a Action
		assert.ErrorContains(t, a.UnmarshalText([]byte(bad)),
			"expected reject, require, skip, optional, ignore")
		var v Version
		assert.ErrorContains(t, v.UnmarshalText([]byte(bad)), "expected v1 or v2")
		var r Reason
		assert.ErrorContains(t, r.UnmarshalText([]byte(bad)), "there is no reason")
	}
	for _, bad := range []encoding.TextMarshaler{Action(5), Version(0), Version(3), Reason(0),
		reasons} {
		_, err := bad.MarshalText()
		assert.ErrorContains(t, err, "proxyproto: there is no")
	}
	assert.Equal(t, "Action(9)", Action(9).String())
	assert.Equal(t, "Reason(0)", Reason(0).String())
}

func TestPeerString(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	unix, unixServer := testenv.UnixPair(t)
	for want, p := range map[string]Peer{
		"10.0.0.1:80": {Addr: netip.MustParseAddrPort("10.0.0.1:80"), Conn: server},
		"unknown":     {},
		"pipe":        {Conn: server},
		"unix":        {Conn: unixServer},
		"unix \"" + unixServer.LocalAddr().String() + "\"": {Conn: unix},
	} {
		assert.Equal(t, want, p.String())
		b, err := json.Marshal(p)
		require.NoError(t, err)
		var back string
		require.NoError(t, json.Unmarshal(b, &back))
		assert.Equal(t, want, back)
	}
}
