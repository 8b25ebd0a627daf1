package clientip

import (
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// forged has every field by which a handler could be lied to, and some that are none of them.
func forged() http.Header {
	h := http.Header{
		"Connection":              {"X-Forwarded-For, close", "x-real-ip,FORWARDED"},
		"Cookie":                  {"a=b"},
		"X-Forwarded-For":         {"203.0.113.66", "203.0.113.67"},
		"X-Forwarded-Proto":       {"https"},
		"X-Forwarded-Host":        {"evil.example"},
		"X-Forwarded-Port":        {"443"},
		"X-Forwarded-Client-Cert": {"Subject=admin"},
		"X_forwarded_for":         {"203.0.113.66"},
		"X-Forwarded_for":         {"203.0.113.66"},
		"X-Forwarded-Client_cert": {"Subject=admin"},
		"X_real_ip":               {"203.0.113.66"},
		"X_underscored":           {"is nobody's business"},
	}
	for name := range clientFields {
		h[name] = []string{"203.0.113.66"}
	}
	return h
}

func rewritten(t *testing.T, cfg Config, remote string, header http.Header) (got *http.Request) {
	t.Helper()
	cfg.Rewrite = true
	before := header.Clone()
	h := newHandler(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r }),
		&cfg)
	h.ServeHTTP(nil, &http.Request{RemoteAddr: remote, Header: header})
	assert.Equal(t, before, header, "the fields of whoever is outside stay as they came")
	return got
}

func TestRewrite(t *testing.T) {
	cfg := Config{Trust: prefixes(t, "10.0.0.0/8"), Field: "X-Forwarded-For"}
	common := http.Header{
		"Connection": {"close"}, "Cookie": {"a=b"}, "X_underscored": {"is nobody's business"},
	}
	with := func(fields http.Header) http.Header {
		h := common.Clone()
		for name, lines := range fields {
			h[name] = lines
		}
		return h
	}
	t.Run("a client itself", func(t *testing.T) {
		assert.Equal(t, with(http.Header{
			"X-Forwarded-For": {"192.0.2.7"}, "X-Real-Ip": {"192.0.2.7"},
			"Forwarded": {"for=192.0.2.7;proto=http"},
		}), rewritten(t, cfg, "192.0.2.7:1234", forged()).Header)
	})
	t.Run("IPv6", func(t *testing.T) {
		assert.Equal(t, with(http.Header{
			"X-Forwarded-For": {"2001:db8::7"}, "X-Real-Ip": {"2001:db8::7"},
			"Forwarded": {`for="[2001:db8::7]";proto=http`},
		}), rewritten(t, cfg, "[2001:db8::7]:1234", forged()).Header)
	})
	t.Run("through a proxy", func(t *testing.T) {
		assert.Equal(t, with(http.Header{
			"X-Forwarded-For": {"203.0.113.67"}, "X-Real-Ip": {"203.0.113.67"},
			"Forwarded":         {"for=203.0.113.67;proto=https"},
			"X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"evil.example"},
			"X-Forwarded-Port":        {"443"},
			"X-Forwarded-Client-Cert": {"Subject=admin"},
		}), rewritten(t, cfg, "10.0.0.1:1234", forged()).Header)
	})
	t.Run("appended to a client's own", func(t *testing.T) {
		header := http.Header{
			"X-Forwarded-For":   {"192.0.2.7"},
			"X-Forwarded-Proto": {"https", "http"},
			"X-Forwarded-Host":  {"evil.example, good.example"},
		}
		assert.Equal(t, http.Header{
			"X-Forwarded-For": {"192.0.2.7"}, "X-Real-Ip": {"192.0.2.7"},
			"Forwarded": {"for=192.0.2.7;proto=http"},
		}, rewritten(t, cfg, "10.0.0.1:1234", header).Header)
	})
	t.Run("what contradicts Scheme", func(t *testing.T) {
		header := http.Header{"Forwarded": {"for=192.0.2.7;proto=http"},
			"X-Forwarded-Proto": {"https"}}
		cfg := Config{Trust: cfg.Trust, Field: "Forwarded"}
		assert.NotContains(t, rewritten(t, cfg, "10.0.0.1:1", header).Header, "X-Forwarded-Proto")
		header["Forwarded"] = []string{"for=192.0.2.7;proto=https"}
		assert.Contains(t, rewritten(t, cfg, "10.0.0.1:1", header).Header, "X-Forwarded-Proto")
	})
	t.Run("names that aren't canonical", func(t *testing.T) {
		header := http.Header{"x-forwarded-for": {"203.0.113.66"},
			"TRUE-CLIENT-IP": {"203.0.113.66"}, "x-REAL_ip": {"203.0.113.66"}}
		assert.Equal(t, http.Header{
			"X-Forwarded-For": {"192.0.2.7"}, "X-Real-Ip": {"192.0.2.7"},
			"Forwarded": {"for=192.0.2.7;proto=http"},
		}, rewritten(t, cfg, "192.0.2.7:1234", header).Header)
	})
	t.Run("another field", func(t *testing.T) {
		cfg := Config{Trust: cfg.Trust, Field: "X-Own-Client"}
		assert.Equal(t, http.Header{
			"X-Forwarded-For": {"192.0.2.7"}, "X-Real-Ip": {"192.0.2.7"},
			"X-Own-Client": {"192.0.2.7"},
			"Forwarded":    {"for=192.0.2.7;proto=http"},
		}, rewritten(t, cfg, "192.0.2.7:1", http.Header{"X-Own-Client": {"203.0.113.66"}}).Header)
	})
	t.Run("nobody", func(t *testing.T) {
		r := rewritten(t, cfg, "@", forged())
		assert.Equal(t, common, r.Header)
		assert.Equal(t, "0.0.0.0:0", r.RemoteAddr)
	})
	t.Run("an upgrade", func(t *testing.T) {
		r := rewritten(t, cfg, "192.0.2.7:1",
			http.Header{"Connection": {"Upgrade, X-Forwarded-For"}, "Upgrade": {"websocket"}})
		assert.Equal(t, []string{"Upgrade"}, r.Header["Connection"])
		r = rewritten(t, cfg, "192.0.2.7:1", http.Header{"Connection": {"X-Forwarded-For"}})
		assert.NotContains(t, r.Header, "Connection")
	})
	t.Run("lines don't share memory", func(t *testing.T) {
		r := rewritten(t, cfg, "192.0.2.7:1", http.Header{})
		r.Header["X-Forwarded-For"] = append(r.Header["X-Forwarded-For"], "a")
		r.Header.Add("X-Real-Ip", "b")
		r.Header["Forwarded"][0] = "c"
		assert.Equal(t, http.Header{
			"X-Forwarded-For": {"192.0.2.7", "a"}, "X-Real-Ip": {"192.0.2.7", "b"},
			"Forwarded": {"c"},
		}, r.Header)
	})
}

// Without Rewrite the fields are the request's own, and nothing is copied.
func TestNoRewrite(t *testing.T) {
	header := forged()
	h := newHandler(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		assert.Equal(t, forged(), r.Header)
	}), &Config{Trust: prefixes(t, "10.0.0.0/8"), Field: "X-Forwarded-For"})
	h.ServeHTTP(nil, &http.Request{RemoteAddr: "10.0.0.1:1", Header: header})
}

// A reverse proxy behind the handler names the client to its backend, however it is written, and a
// client can't make it leave the fields out.
func TestReverseProxyBehind(t *testing.T) {
	var got http.Header
	backend := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = r.Header
	}))
	defer backend.Close()
	target, err := url.Parse(backend.URL)
	assert.NoError(t, err)
	cfg := &Config{Trust: prefixes(t, "10.0.0.0/8"), Field: "X-Forwarded-For", Rewrite: true}
	send := func(proxy http.Handler) {
		r := httptest.NewRequest("GET", "http://example.com/", nil)
		r.RemoteAddr = "10.0.0.1:1234"
		r.Header = forged()
		r.Header["X-Forwarded-For"] = []string{"203.0.113.66, 192.0.2.7"}
		w := httptest.NewRecorder()
		newHandler(t, proxy, cfg).ServeHTTP(w, r)
		assert.Equal(t, http.StatusOK, w.Code)
	}

	send(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.SetXForwarded()
	}})
	assert.Equal(t, []string{"192.0.2.7"}, got["X-Forwarded-For"])
	assert.Equal(t, []string{"192.0.2.7"}, got["X-Real-Ip"])
	assert.NotContains(t, got, "Forwarded", "SetXForwarded's documentation says so")

	//lint:ignore SA1019 what older proxies do
	send(&httputil.ReverseProxy{Director: func(r *http.Request) {
		r.URL.Scheme, r.URL.Host = target.Scheme, target.Host
	}})
	assert.Equal(t, []string{"192.0.2.7, 192.0.2.7"}, got["X-Forwarded-For"],
		"it appends RemoteAddr's")
	assert.Equal(t, []string{"for=192.0.2.7;proto=https"}, got["Forwarded"])
	for name, lines := range got {
		assert.NotContains(t, strings.Join(lines, " "), "203.0.113.66", name)
	}
}

// To a CGI program X-Forwarded-For and X_Forwarded_For are one variable.
func TestCGIBehind(t *testing.T) {
	cfg := &Config{Trust: prefixes(t, "10.0.0.0/8"), Field: "X-Forwarded-For", Rewrite: true}
	r := httptest.NewRequest("GET", "http://example.com/", nil)
	r.RemoteAddr = "192.0.2.7:1234"
	r.Header = forged()
	w := httptest.NewRecorder()
	newHandler(t, &cgi.Handler{Path: "/bin/sh", Args: []string{"-c",
		`printf 'Content-Type: text/plain\r\n\r\n'; env`}}, cfg).ServeHTTP(w, r)
	assert.Contains(t, w.Body.String(), "HTTP_X_FORWARDED_FOR=192.0.2.7\n")
	assert.Contains(t, w.Body.String(), "HTTP_X_REAL_IP=192.0.2.7\n")
	assert.Contains(t, w.Body.String(), "REMOTE_ADDR=192.0.2.7\n")
	assert.NotContains(t, w.Body.String(), "203.0.113.66")
}
