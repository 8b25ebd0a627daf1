package clientip

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Whatever a client writes ahead of what its proxy appends, the client is whom the proxy names.
func TestForgedPrefixes(t *testing.T) {
	for _, forged := range []string{
		"203.0.113.66", "10.0.0.1", "10.0.0.1, 10.0.0.2", "garbage", ",,,", `"`, `"203.0.113.66`,
		`\`, `\"`, "\x00", "\xff",
		"for=203.0.113.66", `for="203.0.113.66`, `for="\`, `for="203.0.113.66\`, `for="a";host="`,
		`for=10.0.0.1;x="\"\\`,
		strings.Repeat("10.0.0.1,", 10_000), strings.Repeat(`"`, 100_000),
		strings.Repeat(`\"`, 50_000), strings.Repeat("(", 100_000),
	} {
		for _, test := range []struct{ field, appended string }{
			{"X-Forwarded-For", "192.0.2.7"},
			{"Forwarded", "for=192.0.2.7"},
			{"Forwarded", `for="192.0.2.7";host="a,b"`},
		} {
			for _, cfg := range []*Config{
				{Trust: prefixes(t, "10.0.0.0/8"), Field: test.field}, {Hops: 1, Field: test.field},
			} {
				for _, lines := range [][]string{{forged + ", " + test.appended},
					{forged, test.appended}} {
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
	}), cfg).ServeHTTP(nil, &http.Request{RemoteAddr: remote,
		Header: http.Header{cfg.Field: lines}})
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
		{&Config{Trust: trust, Field: "X-Forwarded-For"}, strings.Repeat("10.1.2.3,", 9_999) +
			"10.1.2.4", "10.1.2.3:0", 10_000, ProblemNone},
		{&Config{Trust: trust, Field: "Forwarded"}, strings.Repeat(`for="10.1.2.3",`, 10_000),
			"10.1.2.3:0", 10_000, ProblemNone},
		{&Config{Hops: 5_000, Field: "X-Forwarded-For"}, strings.Repeat("192.0.2.7,", 10_000),
			"192.0.2.7:0", 5_000, ProblemNone},
		{&Config{Hops: 20_000, Field: "X-Forwarded-For"}, strings.Repeat("192.0.2.7,", 10_000),
			"192.0.2.7:0", 10_000, ProblemMissing},
		{&Config{Trust: trust, Field: "X-Forwarded-For"}, strings.Repeat(",", 100_000),
			"10.0.0.1:1", 0, ProblemMissing},
		{&Config{Trust: trust, Field: "X-Forwarded-For"}, strings.Repeat("a", 100_000),
			"10.0.0.1:1", 0, ProblemNoAddress},
		{&Config{Trust: trust, Field: "Forwarded"}, "for=10.0.0.2;" + strings.Repeat(`x=",";`,
			20_000), "10.0.0.2:0", 1, ProblemNone},
		{&Config{Trust: trust, Field: "Forwarded"}, `for="` + strings.Repeat(`\1`, 50_000) + `"`,
			"10.0.0.1:1", 0, ProblemNoAddress},
		{&Config{Trust: trust, Field: "Forwarded"}, strings.Repeat(`\`, 100_000) + `"`,
			"10.0.0.1:1", 0, ProblemNoAddress},
		{&Config{Trust: trust, Field: "X-Real-Ip"}, strings.Repeat("1", 100_000), "10.0.0.1:1", 0,
			ProblemNoAddress},
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

// Reading takes time linear in the length: of so much of what is hardest to read, anything else
// would take until the test is ended.
func TestLongFieldsTakeLinearTime(t *testing.T) {
	const length = 1 << 18
	for _, unit := range []string{
		",", `"`, `\`, `\"`, `\\"`, `",`, `"",`, `"\",`, "=", ";", "x=1;", `x="",`, "[", ":", "1",
		"10.0.0.1,", "for=10.0.0.1,",
		"for=10.0.0.1;", " ", ":_", "x", `x="\";`,
	} {
		for _, end := range []string{"", `"`, `x="`, ", for=10.0.0.1"} {
			field := `for="` + strings.Repeat(unit, length/len(unit)) + end
			for _, name := range []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip"} {
				find(t, &Config{Trust: prefixes(t, "10.0.0.0/8"), Field: name}, "10.0.0.1:1",
					[]string{field})
				find(t, &Config{Hops: 1, Field: name}, "10.0.0.1:1", []string{field})
			}
		}
	}
}

// RemoteAddr isn't always an address with a port. Only what is one can be a proxy's.
func TestFormsOfRemoteAddr(t *testing.T) {
	for _, test := range []struct{ remote, untrusted, trusted string }{
		{"10.0.0.1:1", "10.0.0.1:1", "192.0.2.7:0"},
		{"10.0.0.1:0", "10.0.0.1:0", "192.0.2.7:0"},
		{"10.0.0.1", "10.0.0.1:0", "192.0.2.7:0"},
		{"::ffff:10.0.0.1", "10.0.0.1:0", "192.0.2.7:0"},
		{"[::ffff:10.0.0.1]:0", "[::ffff:10.0.0.1]:0", "192.0.2.7:0"},
		{"2001:db8::1", "[2001:db8::1]:0", "192.0.2.7:0"},
		{"[2001:db8::1]:1", "[2001:db8::1]:1", "192.0.2.7:0"},
		{"[2001:db8::1%eth0]:1", "[2001:db8::1%eth0]:1", "192.0.2.7:0"},
		{"2001:db8::1%eth0", "[2001:db8::1]:0", "192.0.2.7:0"},
		{"", noAddr, noAddr},
		{"@", noAddr, noAddr},
		{"pipe", noAddr, noAddr},
		{"/run/client.sock", noAddr, noAddr},
		{":1", noAddr, noAddr},
		{"[10.0.0.1]:1", noAddr, noAddr},
		{"10.0.0.1:http", noAddr, noAddr},
		{"10.0.0.1, 10.0.0.2", noAddr, noAddr},
		{"localhost:1", noAddr, noAddr},
	} {
		for _, cfg := range []*Config{
			{Trust: []netip.Prefix{}, Field: "X-Forwarded-For"},
			{Trust: []netip.Prefix{}, Field: "X-Forwarded-For", Unix: true},
		} {
			got, _ := find(t, cfg, test.remote, []string{"192.0.2.7"})
			assert.Equal(t, test.untrusted, got, test.remote)
		}
		for _, cfg := range []*Config{
			{Trust: prefixes(t, "10.0.0.1", "2001:db8::1"), Field: "X-Forwarded-For"},
			{Hops: 1, Field: "X-Forwarded-For"},
		} {
			got, _ := find(t, cfg, test.remote, []string{"192.0.2.7"})
			assert.Equal(t, test.trusted, got, test.remote)
		}
	}
}

// A handler inside another one sees the request as it came, whatever the other has made of it.
func TestHandlerInHandler(t *testing.T) {
	trust := prefixes(t, "10.0.0.0/8")
	for _, outer := range []*Config{
		{Trust: trust, Field: "X-Forwarded-For"},
		{Trust: trust, Field: "X-Forwarded-For", Rewrite: true},
		{Trust: []netip.Prefix{}, Field: "X-Forwarded-For", Rewrite: true},
		{Hops: 1, Field: "X-Real-IP", Rewrite: true},
	} {
		var client *Client
		var got *http.Request
		inner := newHandler(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			client, _ = ClientFromContext(r.Context())
			got = r
		}), &Config{Trust: trust, Field: "X-Forwarded-For", Rewrite: true})
		between := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			type key struct{}
			inner.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, 1)))
		})
		newHandler(t, between, outer).ServeHTTP(nil,
			&http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{
				"X-Forwarded-For":   {"203.0.113.66, 192.0.2.7:99, 10.0.0.2"},
				"X-Forwarded-Proto": {"https"},
			}})
		assert.Equal(t, "192.0.2.7:99", got.RemoteAddr, "%+v", outer)
		assert.Equal(t, addrs("10.0.0.1", "10.0.0.2"), client.Proxies)
		assert.Equal(t, "https", Scheme(got.Context()))
		assert.Equal(t, []string{"192.0.2.7"}, got.Header["X-Forwarded-For"])
	}
}

// The request is the caller's. The handler that is called may do what it wants with its own.
func TestRequestStaysAsItWas(t *testing.T) {
	for _, rewrite := range []bool{false, true} {
		r := httptest.NewRequest("POST", "http://example.com/", strings.NewReader("body"))
		r.RemoteAddr, r.Header = "10.0.0.1:1", forged()
		r.Header["X-Forwarded-For"] = []string{"192.0.2.7"}
		before := r.Clone(r.Context())
		h := newHandler(t, http.HandlerFunc(func(_ http.ResponseWriter, got *http.Request) {
			if rewrite {
				got.Header.Set("X-Forwarded-For", "203.0.113.66")
				got.Header.Del("Cookie")
			}
			got.RemoteAddr, got.Method, got.URL, got.Body = "", "", nil, nil
		}), &Config{Trust: prefixes(t, "10.0.0.1"), Field: "X-Forwarded-For", Rewrite: rewrite})
		body := r.Body
		h.ServeHTTP(nil, r)
		assert.Equal(t, before.Header, r.Header)
		assert.Equal(t, []any{before.RemoteAddr, before.Method, before.URL, before.Context()},
			[]any{r.RemoteAddr, r.Method, r.URL, r.Context()})
		assert.Equal(t, body, r.Body)
	}
}

// What becomes of a Config when it has been passed is nobody's business.
func TestConfigChangedAfterwards(t *testing.T) {
	cfg := &Config{Trust: prefixes(t, "10.0.0.1"), Field: "X-Forwarded-For"}
	var got string
	h := newHandler(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = r.RemoteAddr
	}), cfg)
	cfg.Trust[0] = netip.MustParsePrefix("192.0.2.7/32")
	*cfg = Config{Hops: 9, Field: "X-Real-Ip", Rewrite: true}
	h.ServeHTTP(nil, &http.Request{RemoteAddr: "10.0.0.1:1",
		Header: http.Header{"X-Forwarded-For": {"203.0.113.66, 192.0.2.7"}}})
	assert.Equal(t, "192.0.2.7:0", got)
}

// A handler's panic goes on to whoever is outside, and what it held is given back.
func TestPanics(t *testing.T) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	require.NoError(t, form.WriteField("a", "b"))
	require.NoError(t, form.Close())
	r := httptest.NewRequest("POST", "/", &body)
	r.Header.Set("Content-Type", form.FormDataContentType())
	h := newHandler(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		require.NoError(t, r.ParseMultipartForm(0))
		panic(http.ErrAbortHandler)
	}), &Config{Hops: 1, Field: "X-Forwarded-For"})
	assert.PanicsWithValue(t, http.ErrAbortHandler, func() { h.ServeHTTP(nil, r) })
	assert.NotNil(t, r.MultipartForm, "the server removes its files if the panic is recovered")
	s, _ := StatsOf(h)
	assert.EqualValues(t, 1, s.Proxied)
}

// Each request has its own client, and none is lost from the counts.
func TestManyAtOnce(t *testing.T) {
	const goroutines, requests = 8, 500
	h := newHandler(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		addr, _ := FromContext(r.Context())
		if want := r.Header.Get("Want"); addr.String() != want || r.RemoteAddr != want+":0" ||
			r.Header.Get("X-Forwarded-For") != want {
			t.Errorf("%s, %s, %q: want %s", addr, r.RemoteAddr, r.Header, want)
		}
	}), &Config{Trust: prefixes(t, "10.0.0.0/8"), Field: "X-Forwarded-For", Rewrite: true})
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			for i := range requests {
				want := netip.AddrFrom4([4]byte{192, 0, byte(g), byte(i)}).String()
				h.ServeHTTP(nil, &http.Request{RemoteAddr: "10.0.0.1:1",
					Header: http.Header{"Want": {want},
						"X-Forwarded-For": {want + ", 10.0.0.2, 10.0.0.3"}}})
			}
		})
	}
	all.Wait()
	s, _ := StatsOf(h)
	assert.EqualValues(t, goroutines*requests, s.Found[FoundField])
}

// Over a real connection: fields in trailers, in strange case, over folded lines, with underscores
// and under Connection neither name a client nor reach a handler that looks for one.
func TestStrangeFields(t *testing.T) {
	for _, proxied := range []bool{false, true} {
		trust := []netip.Prefix{}
		if proxied {
			trust = prefixes(t, "127.0.0.1")
		}
		var trailer, header http.Header
		var remote string
		ln := listen(t, "tcp", "127.0.0.1:0", false)
		serve(t, ln, newHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			header, trailer, remote = r.Header, r.Trailer, r.RemoteAddr
		}), &Config{Trust: trust, Field: "X-Forwarded-For", Rewrite: true}))
		c := dialFrom(t, "127.0.0.1", ln.Addr())
		_, err := io.WriteString(c,
			"POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n"+
				"Trailer: X-Forwarded-For, X-Checksum\r\nConnection: close, x-FORWARDED-for, X_Real_IP\r\n"+
				"x_forwarded_FOR: 203.0.113.66\r\nX_REAL-ip: 203.0.113.66\r\nfORWARDED: for=203.0.113.66\r\n"+
				"x-forwarded-FOR: 203.0.113.66,\r\n  192.0.2.7\r\n\r\n"+
				"1\r\na\r\n0\r\nX-Forwarded-For: 203.0.113.66\r\nX-Checksum: 1\r\n\r\n")
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		resp.Body.Close()
		want := c.LocalAddr().String()
		if proxied {
			want = "192.0.2.7:0"
		}
		assert.Equal(t, want, remote)
		assert.Equal(t, "1", trailer.Get("X-Checksum"), "a trailer reaches the copy of the request")
		for name, lines := range header {
			assert.NotContains(t, strings.Join(lines, " "), "203.0.113.66", name)
		}
		assert.Equal(t, []string{"close"}, header["Connection"])
	}
}
