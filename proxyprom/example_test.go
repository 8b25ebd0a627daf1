package proxyprom_test

import (
	"log"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/proxyprom"
)

func Example() {
	trust, err := proxyproto.ParseTrust("10.0.0.0/24")
	if err != nil {
		log.Fatal(err)
	}
	inner, err := net.Listen("tcp", ":8080")
	if err != nil {
		log.Fatal(err)
	}
	ln, err := proxyproto.NewListener(inner, &proxyproto.Config{Policy: trust})
	if err != nil {
		log.Fatal(err)
	}
	prometheus.MustRegister(proxyprom.NewCollector(ln, prometheus.Labels{"listener": "web"}))

	// The metrics are for another port than the one that the world reaches.
	go func() { log.Fatal(http.ListenAndServe("127.0.0.1:9100", promhttp.Handler())) }()
	log.Fatal(http.Serve(ln, http.FileServer(http.Dir("."))))
}
