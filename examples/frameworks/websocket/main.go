// Websocket tells each WebSocket who it is, and echoes its messages. Nothing is special about it:
// the connection that the upgrade takes over (hijacks) from net/http is the client's.
//
//	go run ./websocket
//	curl --haproxy-protocol -N --http1.1 -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
//	    -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==' http://127.0.0.1:8080/
package main

import (
	"log"
	"net"
	"net/http"

	"github.com/coder/websocket"

	"github.com/seed2e8fe8ee/proxyproto"
)

func main() {
	policy, err := proxyproto.ParseTrust("127.0.0.1", "::1") // your load balancer
	if err != nil {
		log.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:8080")
	if err != nil {
		log.Fatal(err)
	}
	ln, err := proxyproto.NewListener(inner, &proxyproto.Config{Policy: policy})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(newServer().Serve(ln))
}

func newServer() *http.Server {
	return &http.Server{
		Handler:     http.HandlerFunc(echo),
		ConnContext: proxyproto.ConnContext, // for FromContext
	}
}

func echo(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	defer ws.CloseNow()
	greeting := "hello " + r.RemoteAddr
	if h, ok := proxyproto.FromContext(r.Context()); ok {
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
