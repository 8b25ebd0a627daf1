package migrate

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The addresses of the proxy's connection, and those that its headers name.
var (
	proxyAddr  = &net.TCPAddr{IP: net.IPv4(10, 0, 0, 10), Port: 40000}
	serverAddr = &net.TCPAddr{IP: net.IPv4(10, 0, 0, 20), Port: 8080}
)

const (
	clientAddr      = "192.0.2.7:56324"
	destinationAddr = "198.51.100.1:443"
)

// world is a library's listener where an hour takes no time.
type world struct {
	ln       net.Listener
	inner    *pipes
	accepted chan net.Conn
	failed   chan error
	ends     []net.Conn
	all      sync.WaitGroup
}

// inWorld runs f with a listener in a bubble of synctest.
func inWorld(t *testing.T, listen func(inner net.Listener) net.Listener, f func(w *world) string) (result string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		inner := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		w := &world{ln: listen(inner), inner: inner, accepted: make(chan net.Conn, 8), failed: make(chan error, 1)}
		w.all.Go(func() {
			for {
				c, err := w.ln.Accept()
				if err != nil {
					w.failed <- err
					return
				}
				w.accepted <- c
			}
		})
		result = f(w)
		w.ln.Close()
		inner.close()
		for _, c := range w.ends {
			c.Close()
		}
		w.all.Wait()
	})
	return result
}

// dialFrom connects to the listener from the given address. It returns nil if nobody accepts.
func (w *world) dialFrom(addr *net.TCPAddr) net.Conn {
	client, server := net.Pipe()
	w.ends = append(w.ends, client, server)
	select {
	case w.inner.conns <- endpoint{server, serverAddr, addr}:
		return client
	case <-time.After(time.Hour):
		return nil
	}
}

// send connects, sends the segments, one each write, and then hi as the payload, and closes. What comes back is thrown away.
func (w *world) send(addr *net.TCPAddr, segments ...string) (client net.Conn) {
	client = w.dialFrom(addr)
	if client == nil {
		return nil
	}
	w.drain(client)
	w.all.Go(func() {
		segments[len(segments)-1] += payload
		for _, s := range segments {
			if _, err := io.WriteString(client, s); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
		client.Close()
	})
	return client
}

const payload = "hi"

// drain takes what the server writes, for the writes of a net.Pipe wait to be read.
func (w *world) drain(client net.Conn) {
	w.all.Go(func() { io.Copy(io.Discard, client) })
}

// accept returns the next connection, or nil if there is none within an hour.
func (w *world) accept() net.Conn {
	c := w.next()
	if c != nil {
		w.ends = append(w.ends, c)
	}
	return c
}

// next does what accept does, for a goroutine that closes the connection itself.
func (w *world) next() net.Conn {
	select {
	case c := <-w.accepted:
		return c
	case <-time.After(time.Hour):
		return nil
	}
}

// timed runs f and says what it returned, and when.
func (w *world) timed(f func() string) string {
	start, done := time.Now(), make(chan string, 1)
	w.all.Go(func() { done <- f() })
	select {
	case what := <-done:
		when := "at once"
		if what == "not at all" {
			return what
		}
		if took := time.Since(start).Round(time.Second); took > 0 {
			when = "after " + strings.TrimSuffix(took.String(), "m0s")
			if took >= time.Minute {
				when += "m"
			}
		}
		return strings.TrimSpace(what + " " + when)
	case <-time.After(2 * time.Hour):
		return forever
	}
}

const forever = "waits for ever"

// outcome says in the words of the page what became of a connection whose header was sent.
func (w *world) outcome(c net.Conn, peer *net.TCPAddr, sent string) string {
	if c == nil {
		return "closed"
	}
	got, err := io.ReadAll(c)
	switch remote, local := c.RemoteAddr().String(), c.LocalAddr().String(); {
	case err != nil && !errors.Is(err, io.EOF) && len(got) == 0:
		return "error"
	case string(got) == payload && remote == clientAddr && strings.HasSuffix(local, ":443"):
		return "client"
	case string(got) == payload && remote == clientAddr:
		return "client, to port " + local[len("198.51.100.1:"):]
	case string(got) == payload && remote == peer.String():
		return "peer"
	case string(got) == payload:
		return "`" + remote + "`"
	case len(got) == 0:
		return "nothing"
	case remote == peer.String() && string(got) == sent+payload:
		return "as is"
	default:
		return "`" + remote + "`, reads " + string(got)
	}
}

// settle waits until nothing moves any more.
func (w *world) settle() { synctest.Wait() }

var noDeadline time.Time

// endpoint is a connection with the addresses of TCP.
type endpoint struct {
	net.Conn
	local, remote net.Addr
}

func (c endpoint) LocalAddr() net.Addr  { return c.local }
func (c endpoint) RemoteAddr() net.Addr { return c.remote }

// pipes is a listener whose connections are net.Pipe's, which synctest's clock knows.
type pipes struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) close()         { p.once.Do(func() { close(p.closed) }) }
func (p *pipes) Close() error   { p.close(); return nil }
func (p *pipes) Addr() net.Addr { return serverAddr }
