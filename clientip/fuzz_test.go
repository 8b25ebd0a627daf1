package clientip

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// fuzzConfigs are the kinds of trust and field there are.
func fuzzConfigs(t testing.TB) (configs []*Config) {
	t.Helper()
	trust, err := proxyproto.ParsePrefixes("10.0.0.0/8", "2001:db8:1::/48")
	require.NoError(t, err)
	for _, field := range []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip"} {
		configs = append(configs, &Config{Trust: trust, Field: field},
			&Config{Hops: 1, Field: field})
		if field != "X-Real-Ip" {
			configs = append(configs, &Config{Hops: 3, Field: field})
		}
	}
	return configs
}

// compared is one handler, and what its oracle says of the same request.
type compared struct {
	cfg     *Config
	handler http.Handler
	got     oracleClient // what the next handler was told of the last request
	err     error        // why it was told nothing
}

func newCompared(t testing.TB, cfg *Config) *compared {
	t.Helper()
	c := &compared{cfg: cfg}
	c.handler = newHandler(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		c.got, c.err = toldOf(r)
	}), cfg)
	return c
}

func allCompared(t testing.TB) (all []*compared) {
	t.Helper()
	for _, cfg := range fuzzConfigs(t) {
		all = append(all, newCompared(t, cfg))
	}
	return all
}

// toldOf returns what a handler is told of the client that sent it a request.
func toldOf(r *http.Request) (oracleClient, error) {
	client, ok := ClientFromContext(r.Context())
	if !ok {
		return oracleClient{}, errors.New("no client in the context")
	}
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err == nil && client.Addr != addr.Addr() {
		err = fmt.Errorf("Client.Addr is %v, RemoteAddr %s", client.Addr, r.RemoteAddr)
	}
	return oracleClient{
		Client: addr, Found: client.Found, Problem: client.Problem, Proxies: client.Proxies,
		HTTPS: Scheme(r.Context()) == "https",
	}, err
}

// compare sends a request from a peer through the handler, and compares with the oracle. Millions
// of requests are: what goes wrong alone costs something here.
func (c *compared) compare(peer netip.AddrPort, r *http.Request) error {
	c.got, c.err = oracleClient{}, errors.New("the next handler wasn't called")
	c.handler.ServeHTTP(nil, r)
	want := oracle(c.cfg, peer, r.Header)
	if c.err == nil && !c.got.equal(&want) {
		c.err = errors.New("they differ")
	}
	if c.err != nil {
		return fmt.Errorf("%w: %+v from %s, %q\n got %+v\nwant %+v", c.err, c.cfg, peer, r.Header,
			c.got, want)
	}
	return nil
}

// Whom the handlers trust, and whom they don't.
var (
	fuzzProxy    = netip.MustParseAddrPort("10.0.0.1:1234")
	fuzzStranger = netip.MustParseAddrPort("203.0.113.66:1234")
)

// compareField compares one way to read a field, chosen by kind, with the oracle's. Lines are
// separated by newlines.
func compareField(all []*compared, kind byte, field string) error {
	c := all[int(kind)%len(all)]
	header := http.Header{"X-Forwarded-Proto": {"https"}}
	if field != "" {
		header[c.cfg.Field] = strings.Split(field, "\n")
	}
	if kind >= 128 {
		return c.compare(fuzzStranger, &http.Request{RemoteAddr: "203.0.113.66:1234",
			Header: header})
	}
	return c.compare(fuzzProxy, &http.Request{RemoteAddr: "10.0.0.1:1234", Header: header})
}

// maxFuzzField is as much as the oracle can read: it takes quadratic time, and worse.
const maxFuzzField = 300

// FuzzField compares the ways to read a field with the oracle's.
func FuzzField(f *testing.F) {
	for _, seed := range fieldSeeds {
		for kind := range byte(8) {
			f.Add(kind, seed)
		}
	}
	all := allCompared(f)
	f.Fuzz(func(t *testing.T, kind byte, field string) {
		if len(field) > maxFuzzField {
			return
		}
		if err := compareField(all, kind, field); err != nil {
			t.Fatal(err)
		}
	})
}

// The seeds themselves, for every kind of trust.
func TestFieldAgainstOracle(t *testing.T) {
	for _, c := range allCompared(t) {
		for _, seed := range fieldSeeds {
			for _, peer := range []string{"10.0.0.1:1234", "[2001:db8:1::9]:1",
				"203.0.113.66:1234"} {
				header := http.Header{c.cfg.Field: strings.Split(seed, "\n")}
				r := &http.Request{RemoteAddr: peer, Header: header}
				require.NoError(t, c.compare(netip.MustParseAddrPort(peer), r))
			}
		}
	}
}

var fieldSeeds = []string{
	"", " ", ",", ", ,\t,", "192.0.2.7", "192.0.2.7, 10.0.0.2",
	"203.0.113.1,192.0.2.7 , 10.0.0.2,10.0.0.3",
	"10.0.0.4, 10.0.0.3, 10.0.0.2", "192.0.2.7:1234", "192.0.2.7:", "192.0.2.7:65536",
	"192.0.2.7:+1",
	"192.0.2.7:00080", "192.0.2.7:000080", "2001:db8::7", "[2001:db8::7]", "[2001:db8::7]:443",
	"[2001:db8::7]443",
	"[192.0.2.7]", "[::ffff:192.0.2.7]:80", "::ffff:10.0.0.2", "::ffff:192.0.2.7, ::ffff:10.0.0.2",
	"fe80::1%eth0",
	"[fe80::1%25eth0]:80", "192.0.2.007", "192.0.2", "0x7f.0.0.1", "2130706433", "localhost",
	"unknown", "-",
	"192.0.2.7 10.0.0.2", "192.0.2.7;10.0.0.2", "192.0.2.7\n10.0.0.2",
	"192.0.2.7, 10.0.0.2\n10.0.0.3,\n, ",
	"10.0.0.9, garbage, 10.0.0.2", "192.0.2.7, \x00, 10.0.0.2", "192.0.2.7\x00", "\xff\xfe",
	"192.0.2.7\u00a0",
	"::", "0.0.0.0", "1::2::3", ":::", "[::", "[]:80", "[", "]", ":", "\"192.0.2.7\"",
	"2001:db8:1::1, 2001:DB8:0001:0000:0000:0000:0000:0002", "1:2:3:4:5:6:7:8",
	"1:2:3:4:5:6:192.0.2.7",
	"for=192.0.2.7", "For=192.0.2.7;Proto=HTTPS", `for="192.0.2.7:1234";proto=http;by=203.0.113.43`,
	`for="[2001:db8::7]:4711"`, `for="[2001:db8::7]"`, `for=[2001:db8::7]:443`, `for=2001:db8::7`,
	"for=192.0.2.43, for=10.0.0.2",
	"for=192.0.2.43,for=10.0.0.2;proto=https\nfor=10.0.0.3;proto=http",
	"for=unknown;proto=https", "for=_hidden, for=10.0.0.2", `for="_SEVKISEK:_port"`,
	`for="192.0.2.7:_sec"`,
	`for="[2001:db8::7]:_p"`, `for="2001:db8:::_x"`, "for=", `for=""`, "for", "=", ";",
	";;for=192.0.2.7;", "for = 192.0.2.7",
	"by=203.0.113.43", "proto=https", "for=192.0.2.7;for=192.0.2.8",
	"proto=http;proto=https;for=192.0.2.7",
	`for="192.0.2.7`, `for=192.0.2.7"`, `for="x, for=192.0.2.7`, `for="x\", for=192.0.2.7`,
	`host=",", for=192.0.2.7`,
	`for=192.0.2.7;host="a,b;c\"d\\"`, `for=192.0.2.7;host="\\\", for=10.0.0.2"`, `"for"=192.0.2.7`,
	`for="1\92.0.2.7"`,
	`for="192.0.2.7"x`, `for="192.0.2.7" ;proto=https`, `for=192.0.2.7 ; proto=https`,
	`for=192.0.2.7; proto=wss`,
	`for=10.0.0.2;proto=https, for=10.0.0.3;proto=ftp`, `secret="a;b", for=10.0.0.2`,
	"for=192.0.2.7;;proto=https",
	`for=192.0.2.7,,, for=10.0.0.2,`, `for=192.0.2.7;x="\`, `for=192.0.2.7;x="\"`,
	"for=192.0.2.7;x=a=b", "0=\f;proto=https",
}
