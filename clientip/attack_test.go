package clientip

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Whatever a client writes ahead of what its proxy appends, the client is whom the proxy names.
func TestForgedPrefixes(t *testing.T) {
	for _, forged := range []string{
		"203.0.113.66", "10.0.0.1", "10.0.0.1, 10.0.0.2", "garbage", ",,,", `"`, `"203.0.113.66`, `\`, `\"`, "\x00", "\xff",
		"for=203.0.113.66", `for="203.0.113.66`, `for="\`, `for="203.0.113.66\`, `for="a";host="`, `for=10.0.0.1;x="\"\\`,
		strings.Repeat("10.0.0.1,", 10_000), strings.Repeat(`"`, 100_000), strings.Repeat(`\"`, 50_000), strings.Repeat("(", 100_000),
	} {
		for _, test := range []struct{ field, appended string }{
			{"X-Forwarded-For", "192.0.2.7"},
			{"Forwarded", "for=192.0.2.7"},
			{"Forwarded", `for="192.0.2.7";host="a,b"`},
		} {
			for _, cfg := range []*Config{
				{Trust: prefixes(t, "10.0.0.0/8"), Field: test.field}, {Hops: 1, Field: test.field},
			} {
				for _, lines := range [][]string{{forged + ", " + test.appended}, {forged, test.appended}} {
					got, client := find(t, cfg, "10.0.0.1:1", lines)
					require.Equal(t, "192.0.2.7:0", got, "%.50q", lines)
					require.Equal(t, FoundField, client.Found)
				}
			}
		}
	}
}

// find returns the RemoteAddr that the next handler sees, and the client.
func find(t *testing.T, cfg *Config, remote string, lines []string) (got string, client *Client) {
	t.Helper()
	newHandler(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = r.RemoteAddr
		client, _ = ClientFromContext(r.Context())
	}), cfg).ServeHTTP(nil, &http.Request{RemoteAddr: remote, Header: http.Header{cfg.Field: lines}})
	require.NotNil(t, client)
	_, err := netip.ParseAddrPort(got)
	require.NoError(t, err)
	return got, client
}

// Long fields of trusted addresses are walked to their end, and those of anything else end at once.
func TestLongFields(t *testing.T) {
	trust := prefixes(t, "10.0.0.0/8")
	for _, test := range []struct {
		cfg     *Config
		field   string
		got     string
		proxies int
		problem Problem
	}{
		{&Config{Trust: trust, Field: "X-Forwarded-For"}, strings.Repeat("10.1.2.3,", 9_999) + "10.1.2.4", "10.1.2.3:0", 10_000, ProblemNone},
		{&Config{Trust: trust, Field: "Forwarded"}, strings.Repeat(`for="10.1.2.3",`, 10_000), "10.1.2.3:0", 10_000, ProblemNone},
		{&Config{Hops: 5_000, Field: "X-Forwarded-For"}, strings.Repeat("192.0.2.7,", 10_000), "192.0.2.7:0", 5_000, ProblemNone},
		{&Config{Hops: 20_000, Field: "X-Forwarded-For"}, strings.Repeat("192.0.2.7,", 10_000), "192.0.2.7:0", 10_000, ProblemMissing},
		{&Config{Trust: trust, Field: "X-Forwarded-For"}, strings.Repeat(",", 100_000), "10.0.0.1:1", 0, ProblemMissing},
		{&Config{Trust: trust, Field: "X-Forwarded-For"}, strings.Repeat("a", 100_000), "10.0.0.1:1", 0, ProblemNoAddress},
		{&Config{Trust: trust, Field: "Forwarded"}, "for=10.0.0.2;" + strings.Repeat(`x=",";`, 20_000), "10.0.0.2:0", 1, ProblemNone},
		{&Config{Trust: trust, Field: "Forwarded"}, `for="` + strings.Repeat(`\1`, 50_000) + `"`, "10.0.0.1:1", 0, ProblemNoAddress},
		{&Config{Trust: trust, Field: "Forwarded"}, strings.Repeat(`\`, 100_000) + `"`, "10.0.0.1:1", 0, ProblemNoAddress},
		{&Config{Trust: trust, Field: "X-Real-Ip"}, strings.Repeat("1", 100_000), "10.0.0.1:1", 0, ProblemNoAddress},
	} {
		got, client := find(t, test.cfg, "10.0.0.1:1", []string{test.field})
		assert.Equal(t, test.got, got)
		assert.Len(t, client.Proxies, test.proxies)
		assert.Equal(t, test.problem, client.Problem)
	}
	got, client := find(t, &Config{Trust: trust, Field: "X-Forwarded-For"}, "10.0.0.1:1",
		append([]string{"192.0.2.7"}, make([]string, 100_000)...))
	assert.Equal(t, "192.0.2.7:0", got)
	assert.Equal(t, ProblemNone, client.Problem)
}

// Reading takes time linear in the length: of a megabyte of what is hardest to read, anything else
// would take until the test is ended.
func TestMegabytes(t *testing.T) {
	const megabyte = 1 << 20
	for _, unit := range []string{
		",", `"`, `\`, `\"`, `\\"`, `",`, `"",`, `"\",`, "=", ";", "x=1;", `x="",`, "[", ":", "1", "10.0.0.1,", "for=10.0.0.1,",
		"for=10.0.0.1;", " ", ":_", "x", `x="\";`,
	} {
		for _, end := range []string{"", `"`, `x="`, ", for=10.0.0.1"} {
			field := `for="` + strings.Repeat(unit, megabyte/len(unit)) + end
			for _, name := range []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip"} {
				find(t, &Config{Trust: prefixes(t, "10.0.0.0/8"), Field: name}, "10.0.0.1:1", []string{field})
				find(t, &Config{Hops: 1, Field: name}, "10.0.0.1:1", []string{field})
			}
		}
	}
}
