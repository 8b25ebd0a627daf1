package clientip_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/clientip"
)

// An HTTP proxy at 10.0.0.11 appends to X-Forwarded-For. Its client has sent the field already, to be
// taken for somebody else.
func ExampleNewHandler() {
	trust, err := proxyproto.ParsePrefixes("10.0.0.11")
	if err != nil {
		panic(err)
	}
	handler, err := clientip.NewHandler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		client, _ := clientip.ClientFromContext(r.Context())
		fmt.Println(client.Addr, "by", client.Found, "through", client.Proxies)
		fmt.Println(r.RemoteAddr, clientip.Scheme(r.Context()))
	}), &clientip.Config{Trust: trust, Field: "X-Forwarded-For"})
	if err != nil {
		panic(err)
	}

	r := httptest.NewRequest("GET", "http://example.com/", nil)
	r.RemoteAddr = "10.0.0.11:51234"
	r.Header.Set("X-Forwarded-For", "203.0.113.66, 192.0.2.7")
	r.Header.Set("X-Forwarded-Proto", "https")
	handler.ServeHTTP(httptest.NewRecorder(), r)
	// Output:
	// 192.0.2.7 by field through [10.0.0.11]
	// 192.0.2.7:0 https
}
