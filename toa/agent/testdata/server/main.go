// Server prints where it listens, and the RemoteAddr of each connection.
package main

import (
	"fmt"
	"log"
	"net"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/toa"
)

func main() {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	ln, err := toa.NewListener(inner, &toa.Config{Policy: proxyproto.Always(proxyproto.Require)})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ln.Addr())
	for {
		c, err := ln.Accept()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(c.RemoteAddr())
		c.Close()
	}
}
