package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

// patience is how long connections may go on when serve ends.
const patience = 5 * time.Second

// streams serves connections until ctx ends or there were enough.
func (s *server) streams(ctx context.Context, address string, cfg *proxyproto.Config, echo bool) error {
	inner, err := net.Listen("tcp", address)
	if err != nil {
		return networkError(err)
	}
	ln, err := proxyproto.NewListener(inner, cfg)
	if err != nil {
		inner.Close()
		return err
	}
	s.listening(ln.Addr())
	failed := make(chan error, 1)
	answer := s.http
	if echo {
		answer = s.echo
	}
	finish := answer(&printing{ln, s}, failed)
	select {
	case <-ctx.Done():
	case <-s.full:
	case err = <-failed:
		err = networkError(err)
	}
	ln.Close()
	finish()
	s.done(ln.Stats())
	return err
}

// printing is a listener that prints what Accept returns.
type printing struct {
	*proxyproto.Listener
	s *server
}

func (p *printing) Accept() (net.Conn, error) {
	for {
		conn, err := p.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if p.s.print(arrivedOn(conn)) {
			return conn, nil
		}
		conn.Close() // one too many
	}
}

// arrivedOn is the event of a connection.
func arrivedOn(conn net.Conn) *event {
	var h proxyproto.Header
	peer := conn.RemoteAddr()
	if c, ok := proxyproto.FromConn(conn); ok {
		peer = c.NetConn().RemoteAddr()
		if c.Header() != nil {
			h = *c.Header()
		}
	}
	return arrived("connection", peer, h, nil)
}

type connKey struct{}

// http answers requests with the event of their connection, until Accept fails. It returns a
// function that waits for those under way then.
func (s *server) http(ln net.Listener, failed chan<- error) (finish func()) {
	var conns sync.WaitGroup
	srv := &http.Server{
		ReadHeaderTimeout: 30 * time.Second,
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				conns.Add(1)
			case http.StateClosed:
				conns.Done()
			}
		},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, arrivedOn(c))
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if s.json {
				w.Header().Set("Content-Type", "application/json")
			} else {
				w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			}
			w.Write(r.Context().Value(connKey{}).(*event).encode(s.json))
		}),
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		failed <- srv.Serve(ln)
	}()
	return func() {
		<-served
		// Not Shutdown: it drops a connection whose first request is yet to be answered.
		srv.SetKeepAlivesEnabled(false)
		timer := time.AfterFunc(patience, func() { srv.Close() })
		defer timer.Stop()
		conns.Wait()
	}
}

// echo answers with what comes, in the same way.
func (s *server) echo(ln net.Listener, failed chan<- error) (finish func()) {
	var conns sync.WaitGroup
	var open sync.Map
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			conn, err := ln.Accept()
			if err != nil {
				failed <- err
				return
			}
			open.Store(conn, nil)
			conns.Go(func() {
				defer open.Delete(conn)
				defer conn.Close()
				io.Copy(conn, conn)
			})
		}
	}()
	return func() {
		<-served
		timer := time.AfterFunc(patience, func() {
			for conn := range open.Range {
				conn.(net.Conn).Close()
			}
		})
		defer timer.Stop()
		conns.Wait()
	}
}

// datagrams echoes datagrams until ctx ends or there were enough.
func (s *server) datagrams(ctx context.Context, address string, cfg *proxyproto.Config) error {
	inner, err := net.ListenPacket("udp", address)
	if err != nil {
		return networkError(err)
	}
	pc, err := proxyproto.NewPacketConn(inner, cfg)
	if err != nil {
		inner.Close()
		return err
	}
	s.listening(pc.LocalAddr())
	failed := make(chan error, 1)
	go func() { failed <- s.echoDatagrams(pc) }()
	select {
	case <-ctx.Done():
	case <-s.full:
	case err = <-failed:
		err = networkError(err)
		failed <- err
	}
	// A datagram that has been printed is still answered before the socket is closed.
	pc.SetReadDeadline(time.Now())
	<-failed
	pc.Close()
	s.done(pc.Stats())
	return err
}

func (s *server) echoDatagrams(pc *proxyproto.PacketConn) error {
	b := make([]byte, 1<<16)
	for {
		var h proxyproto.Header
		n, addr, err := pc.ReadHeaderFrom(b, &h)
		if err != nil {
			return err
		}
		if !s.print(arrived("datagram", net.UDPAddrFromAddrPort(addr.Peer()), h, &n)) {
			return nil
		}
		pc.WriteTo(b[:n], addr)
	}
}
