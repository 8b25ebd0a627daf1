// Ssh is an SSH server that tells its clients who they are. SSH servers send their version first, and
// some clients wait for it, so behind a balancer that sends the header only with the client's first
// bytes (AWS NLB does by default) it needs Lazy.
//
//	go run ./ssh
//	ssh -p 2222 -o ProxyCommand="sh -c \"printf 'PROXY TCP4 192.0.2.7 198.51.100.1 56324 22\\r\\n'; cat\" | nc %h %p" 127.0.0.1
package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/seed2e8fe8ee/proxyproto"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:2222", "address to listen on")
	trust := flag.String("trust", "127.0.0.1,::1", "whose headers to believe: addresses and ranges")
	flag.Parse()

	policy, err := proxyproto.ParseTrust(strings.Split(*trust, ",")...)
	if err != nil {
		log.Fatal("-trust: ", err)
	}
	ln, err := proxyproto.Listen("tcp", *listen, &proxyproto.Config{
		Policy: policy,
		Lazy:   true,
		OnDrop: proxyproto.LogDrops(nil),
	})
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("listening on %v", ln.Addr())
	cfg, err := newConfig()
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(serve(ln, func(c net.Conn) {
		if err := session(c, cfg); err != nil {
			log.Printf("%v: %v", c.RemoteAddr(), err)
		}
	}))
}

func newConfig() (*ssh.ServerConfig, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, err
	}
	cfg := &ssh.ServerConfig{
		NoClientAuth: true,
		// The header was read with the client's version, so all that asks for an address here gets the
		// client's: callbacks, and the source-address option of certificates.
		NoClientAuthCallback: func(meta ssh.ConnMetadata) (*ssh.Permissions, error) {
			log.Printf("%s from %v", meta.User(), meta.RemoteAddr())
			return nil, nil
		},
	}
	cfg.AddHostKey(signer)
	return cfg, nil
}

// serve handles connections until ln is closed. Other errors of Accept, such as too many open
// files, pass: the server must outlive them.
func serve(ln net.Listener, handle func(c net.Conn)) error {
	for {
		c, err := ln.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			log.Printf("accept: %v; trying again", err)
			time.Sleep(100 * time.Millisecond)
		default:
			go handle(c)
		}
	}
}

// patience is how long a client may take until it is logged in, from the moment it connects, and
// visit how long it may stay then: this server has little to say.
const (
	patience = 30 * time.Second
	visit    = 5 * time.Minute
)

func session(c net.Conn, cfg *ssh.ServerConfig) error {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	conn, channels, requests, err := ssh.NewServerConn(c, cfg)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := c.SetDeadline(time.Now().Add(visit)); err != nil {
		return err
	}
	go ssh.DiscardRequests(requests)
	for asked := range channels {
		if asked.ChannelType() != "session" {
			asked.Reject(ssh.UnknownChannelType, "only sessions")
			continue
		}
		channel, requests, err := asked.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer channel.Close()
			for r := range requests {
				r.Reply(r.Type == "shell" || r.Type == "pty-req", nil)
				if r.Type == "shell" {
					fmt.Fprintf(channel, "hello %v\r\n", conn.RemoteAddr())
					channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{}))
					return
				}
			}
		}()
	}
	return nil
}
