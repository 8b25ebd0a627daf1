package clientip

import (
	"bytes"
	"context"
	"encoding/json"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNewHandlerErrors(t *testing.T) {
	trust := []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}
	for _, test := range []struct {
		cfg  *Config
		says string
	}{
		{nil, "trusts no HTTP proxy"},
		{&Config{Field: "X-Forwarded-For"}, "trusts no HTTP proxy"},
		{&Config{Trust: trust}, "no Field"},
		{&Config{Trust: trust, Field: "X-Real-IP:"}, `"X-Real-IP:"`},
		{&Config{Trust: trust, Field: "X Real IP"}, `"X Real IP"`},
		{&Config{Trust: trust, Hops: 1, Field: "X-Forwarded-For"}, "both Trust and Hops"},
		{&Config{Trust: []netip.Prefix{}, Hops: 1, Field: "X-Forwarded-For"}, "both Trust and Hops"},
		{&Config{Hops: -1, Field: "X-Forwarded-For"}, "negative: -1"},
		{&Config{Hops: 2, Field: "X-Real-IP"}, "Hops is 2, but X-Real-IP has one address"},
		{&Config{Trust: append(trust, netip.Prefix{}), Field: "X-Forwarded-For"}, "invalid Prefix"},
		{&Config{Trust: []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/90")}, Field: "X-Forwarded-For"},
			"at least 96"},
	} {
		h, err := NewHandler(say, test.cfg)
		assert.Nil(t, h)
		require.ErrorContains(t, err, test.says)
		assert.True(t, strings.HasPrefix(err.Error(), "clientip: "), err.Error())
	}
	_, err := NewHandler(nil, &Config{Trust: trust, Field: "X-Forwarded-For"})
	assert.ErrorContains(t, err, "a handler to call")

	for _, cfg := range []*Config{
		{Trust: []netip.Prefix{}, Field: "X-Forwarded-For"},
		{Unix: true, Field: "forwarded"},
		{Hops: 2, Field: "x-forwarded-for"},
		{Hops: 1, Field: "CF-Connecting-IP"},
	} {
		_, err := NewHandler(say, cfg)
		assert.NoError(t, err, "%+v", cfg)
	}
}

func TestOtherContexts(t *testing.T) {
	_, ok := FromContext(t.Context())
	assert.False(t, ok)
	_, ok = ClientFromContext(t.Context())
	assert.False(t, ok)
}

// A context made of the request's still has what its parents have, and ends with them.
func TestContext(t *testing.T) {
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	h := newHandler(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		child, stop := context.WithCancel(r.Context())
		defer stop()
		assert.Equal(t, "value", child.Value(key{}))
		addr, ok := FromContext(child)
		assert.True(t, ok)
		assert.Equal(t, "192.0.2.7", addr.String())
		cancel()
		<-child.Done()
	}), &Config{Hops: 1, Field: "X-Forwarded-For"})
	outer := &http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{"X-Forwarded-For": {"192.0.2.7"}}}
	outer = outer.WithContext(ctx)
	h.ServeHTTP(nil, outer)
	assert.Equal(t, "10.0.0.1:1", outer.RemoteAddr, "the request of whoever is outside is his")
}

func TestStats(t *testing.T) {
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	h := newHandler(t, next, &Config{Trust: prefixes(t, "10.0.0.0/8"), Field: "X-Real-IP"})
	for _, lines := range [][]string{nil, {"192.0.2.7"}, {"192.0.2.7", "192.0.2.7"}, {"unknown"}, {""}, {"1.1.1.1, 192.0.2.7"}} {
		h.ServeHTTP(nil, &http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{"X-Real-Ip": lines}})
	}
	h.ServeHTTP(nil, &http.Request{RemoteAddr: "192.0.2.7:1", Header: http.Header{"X-Real-Ip": {"a", "b"}}})
	h.ServeHTTP(nil, &http.Request{RemoteAddr: "pipe"})
	s, ok := StatsOf(h)
	require.True(t, ok)
	assert.Equal(t, Stats{
		Found:    map[Found]uint64{FoundNowhere: 1, FoundConnection: 6, FoundField: 1},
		Problems: map[Problem]uint64{ProblemMissing: 1, ProblemNoAddress: 3, ProblemRepeated: 1},
		Proxied:  6,
	}, s)
	b, err := json.Marshal(s)
	require.NoError(t, err)
	assert.JSONEq(t, `{"Found":{"nowhere":1,"connection":6,"field":1},"Proxied":6,
		"Problems":{"field missing":1,"no address in field":3,"field repeated":1}}`, string(b))

	_, ok = StatsOf(next)
	assert.False(t, ok)
}

func TestTexts(t *testing.T) {
	assert.Equal(t, "PROXY header", FoundHeader.String())
	assert.Equal(t, "Found(9)", Found(9).String())
	assert.Equal(t, "none", ProblemNone.String())
	assert.Equal(t, "Problem(9)", Problem(9).String())
	_, err := Found(9).MarshalText()
	assert.ErrorContains(t, err, "clientip: there is no Found(9)")
	_, err = Problem(9).MarshalText()
	assert.ErrorContains(t, err, "clientip: there is no Problem(9)")
}

// Addresses of the connection are plain before they are compared, and stay as text what they were.
func TestPlainAddresses(t *testing.T) {
	for _, remote := range []string{"[::ffff:10.0.0.1]:1", "[fe80::1%eth0]:1", "10.0.0.1:1"} {
		cfg := &Config{Trust: prefixes(t, "::ffff:10.0.0.0/104", "fe80::/10"), Field: "X-Forwarded-For"}
		got, client := find(t, cfg, remote, []string{"192.0.2.7"})
		assert.Equal(t, "192.0.2.7:0", got)
		assert.Empty(t, client.Proxies[0].Zone())
		assert.False(t, client.Proxies[0].Is4In6())

		cfg.Trust = []netip.Prefix{}
		got, client = find(t, cfg, remote, []string{"192.0.2.7"})
		assert.Equal(t, remote, got)
		assert.Equal(t, client.Addr.Unmap().WithZone(""), client.Addr)
	}
}

// Files that a handler has had written for a form go when it is done.
func TestMultipartFiles(t *testing.T) {
	names := make(chan string, 1)
	ts := httptest.NewServer(newHandler(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		name := ""
		if err := r.ParseMultipartForm(0); assert.NoError(t, err) {
			file, err := r.MultipartForm.File["upload"][0].Open()
			if assert.NoError(t, err) {
				defer file.Close()
				name = file.(*os.File).Name()
				assert.FileExists(t, name)
			}
		}
		names <- name
	}), &Config{Hops: 1, Field: "X-Forwarded-For"}))
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("upload", "file")
	require.NoError(t, err)
	_, err = part.Write(make([]byte, 1<<20))
	require.NoError(t, err)
	require.NoError(t, form.Close())
	resp, err := http.Post(ts.URL, form.FormDataContentType(), &body)
	require.NoError(t, err)
	resp.Body.Close()
	name := <-names
	ts.Close() // waits until the request is done
	assert.NotEmpty(t, name)
	assert.NoFileExists(t, name)
}
