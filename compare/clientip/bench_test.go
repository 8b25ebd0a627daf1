// Package clientip measures what finding a request's client costs, beside what others do for it:
//
//	go test -c ./clientip && for i in $(seq 15); do
//		./clientip.test -test.run '^$' -test.bench . -test.benchmem -test.benchtime 30ms -test.cpu 1
//	done
package clientip

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/labstack/echo/v4"
	"github.com/realclientip/realclientip-go"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/clientip"
)

const (
	trusted = "10.0.0.0/8"
	peer    = "10.0.0.1:51234"
)

// contender finds a request's client by X-Forwarded-For, and trusts one range of proxies.
type contender struct {
	name string
	make func(tb testing.TB, see func(client string)) http.Handler
}

// All give the handler the client as text, since that is what gin, echo and realclientip-go have.
var contenders = []contender{
	{"clientip", func(tb testing.TB, see func(string)) http.Handler {
		trust, err := proxyproto.ParsePrefixes(trusted)
		require.NoError(tb, err)
		h, err := clientip.NewHandler(
			http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				see(host(r.RemoteAddr))
			}), &clientip.Config{Trust: trust, Field: "X-Forwarded-For"})
		require.NoError(tb, err)
		return h
	}},
	{"chi", func(_ testing.TB, see func(string)) http.Handler {
		return middleware.ClientIPFromXFF(trusted)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			see(middleware.GetClientIP(r.Context()))
		}))
	}},
	{"gin", func(tb testing.TB, see func(string)) http.Handler {
		gin.SetMode(gin.ReleaseMode)
		engine := gin.New()
		require.NoError(tb, engine.SetTrustedProxies([]string{trusted}))
		engine.RemoteIPHeaders = []string{"X-Forwarded-For"}
		engine.GET("/", func(c *gin.Context) { see(c.ClientIP()) })
		return engine
	}},
	{"echo", func(tb testing.TB, see func(string)) http.Handler {
		_, ipNet, err := net.ParseCIDR(trusted)
		require.NoError(tb, err)
		e := echo.New()
		e.IPExtractor = echo.ExtractIPFromXFFHeader(echo.TrustLoopback(false),
			echo.TrustLinkLocal(false), echo.TrustPrivateNet(false), echo.TrustIPRange(ipNet))
		e.GET("/", func(c echo.Context) error { see(c.RealIP()); return nil })
		return e
	}},
	{"realclientip", func(tb testing.TB, see func(string)) http.Handler {
		nets, err := realclientip.AddressesAndRangesToIPNets(trusted)
		require.NoError(tb, err)
		strategy, err := realclientip.NewRightmostTrustedRangeStrategy("X-Forwarded-For", nets)
		require.NoError(tb, err)
		type key struct{}
		// as its example of a middleware
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			client := strategy.ClientIP(r.Header, r.RemoteAddr)
			r = r.WithContext(context.WithValue(r.Context(), key{}, client))
			see(r.Context().Value(key{}).(string))
		})
	}},
}

func host(remote string) string {
	h, _, _ := net.SplitHostPort(remote)
	return h
}

var fields = []struct{ name, value string }{
	{"one_hop", "192.0.2.7"},
	{"forged", "203.0.113.1, 203.0.113.2, 203.0.113.3, 203.0.113.4, 192.0.2.7"},
	{"three_hops", "192.0.2.7, 10.0.0.2, 10.0.0.3"},
	{"IPv6", "2001:db8::7"},
}

func request(value string) *http.Request {
	r, err := http.NewRequest(http.MethodGet, "/", nil)
	if err != nil {
		panic(err)
	}
	r.RemoteAddr = peer
	r.Header.Set("X-Forwarded-For", value)
	return r
}

type writer struct{}

func (writer) Header() http.Header         { return nil }
func (writer) Write(b []byte) (int, error) { return len(b), nil }
func (writer) WriteHeader(int)             {}

// They do the same: all find the client.
func TestContenders(t *testing.T) {
	for _, c := range contenders {
		for _, f := range fields {
			var got string
			c.make(t, func(client string) { got = client }).ServeHTTP(writer{}, request(f.value))
			want := "192.0.2.7"
			if f.name == "IPv6" {
				want = "2001:db8::7"
			}
			require.Equal(t, netip.MustParseAddr(want), netip.MustParseAddr(got), "%s, %s", c.name,
				f.name)
		}
	}
}

func BenchmarkClientIP(b *testing.B) {
	warmUp(b)
	for _, f := range fields {
		for _, c := range contenders {
			b.Run(f.name+"/"+c.name, func(b *testing.B) {
				seen := 0
				h := c.make(b, func(client string) { seen += len(client) })
				r := request(f.value)
				b.ReportAllocs()
				for b.Loop() {
					h.ServeHTTP(writer{}, r)
				}
				if seen == 0 {
					b.Fatal("nobody was seen")
				}
			})
		}
	}
}

// warmUp serves some requests with each, so that the first isn't charged with the heap's growth.
func warmUp(tb testing.TB) {
	for _, f := range fields {
		r := request(f.value)
		for _, c := range contenders {
			h := c.make(tb, func(string) {})
			for range 20_000 {
				h.ServeHTTP(writer{}, r)
			}
		}
	}
}
