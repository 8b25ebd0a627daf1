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
	"fmt"
	"log"
	"net"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/seed2e8fe8ee/proxyproto"
)

func main() {
	policy, err := proxyproto.ParseTrust("127.0.0.1", "::1") // your load balancer
	if err != nil {
		log.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:2222")
	if err != nil {
		log.Fatal(err)
	}
	ln, err := newListener(inner, policy)
	if err != nil {
		log.Fatal(err)
	}
	cfg, err := newConfig()
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(serve(ln, cfg))
}

func newListener(inner net.Listener, policy proxyproto.Policy) (*proxyproto.Listener, error) {
	return proxyproto.NewListener(inner, &proxyproto.Config{
		Policy:        policy,
		Lazy:          true,
		HeaderTimeout: 30 * time.Second, // the client's time to speak
	})
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

func serve(ln net.Listener, cfg *ssh.ServerConfig) error {
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go session(c, cfg)
	}
}

func session(c net.Conn, cfg *ssh.ServerConfig) {
	defer c.Close()
	conn, channels, requests, err := ssh.NewServerConn(c, cfg)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for asked := range channels {
		if asked.ChannelType() != "session" {
			asked.Reject(ssh.UnknownChannelType, "only sessions")
			continue
		}
		channel, requests, err := asked.Accept()
		if err != nil {
			return
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
}
