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

// serveStreams serves connections until ctx ends or there were enough.
func (l *log) serveStreams(ctx context.Context, address string, cfg *proxyproto.Config,
	echo bool) error {
	ln, err := proxyproto.Listen("tcp", address, cfg)
	if err != nil {
		return listenError(err)
	}
	l.print(listening(ln.Addr()))
	failed := make(chan error, 1)
	answer := l.http
	if echo {
		answer = l.echo
	}
	finish := answer(&printing{ln, l}, failed)
	select {
	case <-ctx.Done():
	case <-l.full:
	case err = <-failed:
		err = networkError(err)
	}
	ln.Close()
	finish()
	l.print(done(ln.Stats()))
	return err
}

// printing is a listener that prints what Accept returns.
type printing struct {
	*proxyproto.Listener
	log *log
}

func (p *printing) Accept() (net.Conn, error) {
	for {
		conn, err := p.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if p.log.print(arrivedOn(conn)) {
			return conn, nil
		}
		conn.Close() // one too many
	}
}

// arrivedOn is the event of a connection.
func arrivedOn(conn net.Conn) *event {
	var h *proxyproto.Header
	peer := conn.RemoteAddr()
	if c, ok := proxyproto.FromConn(conn); ok {
		peer = c.NetConn().RemoteAddr()
		h = c.Header()
	}
	return arrived("connection", peer.String(), h, nil)
}

type connKey struct{}

// http answers requests with the event of their connection, until Accept fails. It returns a
// function that waits for those under way then.
func (l *log) http(ln net.Listener, failed chan<- error) (finish func()) {
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
			if l.json {
				w.Header().Set("Content-Type", "application/json")
			} else {
				w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			}
			e := *r.Context().Value(connKey{}).(*event)
			e.Time = time.Now().Truncate(time.Millisecond)
			w.Write(e.encode(l.json))
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
func (l *log) echo(ln net.Listener, failed chan<- error) (finish func()) {
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
