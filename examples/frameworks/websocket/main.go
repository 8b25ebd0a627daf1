// Websocket tells each WebSocket who it is, and echoes its messages. Nothing is special about it:
// the connection that the upgrade takes over (hijacks) from net/http is the client's.
//
//	go run ./websocket
//	curl --haproxy-protocol -N --http1.1 -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
//	    -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==' http://127.0.0.1:8080/
package main

import (
	"flag"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/seed2e8fe8ee/proxyproto"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to listen on")
	trust := flag.String("trust", "127.0.0.1,::1", "whose headers to believe: addresses and ranges")
	flag.Parse()

	policy, err := proxyproto.ParseTrust(strings.Split(*trust, ",")...)
	if err != nil {
		log.Fatal("-trust: ", err)
	}
	ln, err := proxyproto.Listen("tcp", *listen, &proxyproto.Config{
		Policy: policy,
		OnDrop: proxyproto.LogDrops(nil),
	})
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("listening on %v", ln.Addr())
	log.Fatal(newServer().Serve(ln))
}

func newServer() *http.Server {
	return &http.Server{
		Handler:           http.HandlerFunc(echo),
		ConnContext:       proxyproto.ConnContext, // for HeaderFromContext
		ReadHeaderTimeout: 10 * time.Second,
	}
}

func echo(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	defer ws.CloseNow()
	greeting := "hello " + r.RemoteAddr
	if h, ok := proxyproto.HeaderFromContext(r.Context()); ok {
		greeting += ", by " + h.String()
	}
	if err := ws.Write(r.Context(), websocket.MessageText, []byte(greeting)); err != nil {
		return
	}
	for {
		kind, message, err := ws.Read(r.Context())
		if err != nil {
			return
		}
		if err := ws.Write(r.Context(), kind, message); err != nil {
			return
		}
	}
}
