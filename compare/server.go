package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	armon "github.com/armon/go-proxyproto"
	mastercactapus "github.com/mastercactapus/proxyprotocol"
	pires "github.com/pires/go-proxyproto"
	"golang.org/x/sys/unix"

	"github.com/seed2e8fe8ee/proxyproto"
)

// wrap makes a contender's listener around ln. All trust the loopback addresses and are patient.
func wrap(kind string, ln net.Listener, maxPending int) (net.Listener, error) {
	const loopback, patience = "127.0.0.0/8", 10 * time.Minute
	switch kind {
	case nameBare:
		return ln, nil
	case nameOurs, nameLazy:
		return proxyproto.NewListener(ln, &proxyproto.Config{
			Policy:        proxyproto.Trust(netip.MustParsePrefix(loopback)),
			HeaderTimeout: patience,
			MaxPending:    maxPending,
			Lazy:          kind == nameLazy,
		})
	case namePires:
		policy, err := pires.TrustProxyHeaderFromRanges([]string{loopback})
		return &pires.Listener{Listener: ln, ConnPolicy: policy, ReadHeaderTimeout: patience}, err
	case nameArmon:
		return &armon.Listener{Listener: ln, ProxyHeaderTimeout: patience}, nil
	case nameMastercactapus:
		_, subnet, err := net.ParseCIDR(loopback)
		wrapped := mastercactapus.NewListener(ln, patience)
		wrapped.SetFilter([]mastercactapus.Rule{{Subnet: subnet, Timeout: patience}})
		return wrapped, err
	}
	return nil, fmt.Errorf("there is no contender %q", kind)
}

// headerFor returns the header that a contender's connections begin with.
func headerFor(kind string) []byte {
	if kind == nameArmon {
		return wires.v1TCP4 // it knows no other version
	}
	return wires.v2TCP4
}

const lenPayload = 32

// wantFor returns how many bytes a contender's user sees of a header and a payload.
func wantFor(kind string, header []byte) int {
	if kind == nameBare {
		return len(header) + lenPayload
	}
	return lenPayload
}

// server is the helper that accepts.
type server struct {
	arrived, done atomic.Int64
	listeners     []*serving
}

// serving is a listener and what is done with its connections.
type serving struct {
	server *server
	all    []net.Listener // one for each socket
	req    request
	sink   net.Listener // for a relay: where the other connection comes from
}

func newServer() *server { return new(server) }

func (s *server) handle(req request) (reply, error) {
	switch req.Op {
	case "listen":
		return s.listen(req)
	case "accept":
		for _, l := range s.listeners {
			if l.req.Hold {
				l.req.Hold = false
				go l.serve(l.all[0])
			}
		}
		return reply{}, nil
	case "drain":
		return s.drain(req)
	case "mark":
		os.Stat(markFile)
		return reply{}, nil
	case "stat":
		return s.stat(), nil
	case "collect":
		// Pools give up what they keep at the second collection.
		for range 3 {
			runtime.GC()
		}
		return s.stat(), nil
	}
	return reply{}, errors.New("no such operation")
}

// listen opens a listener on an address that nothing else uses.
func (s *server) listen(req request) (reply, error) {
	l := &serving{server: s, req: req}
	pid, n := os.Getpid(), len(s.listeners)
	address := fmt.Sprintf("127.%d.%d.%d:0", 1+pid>>8%250, 1+pid%250, 1+n%250)
	config := net.ListenConfig{}
	if req.Sockets > 0 {
		config.Control = shareAddress
	}
	for range max(1, req.Sockets) {
		inner, err := config.Listen(context.Background(), "tcp", address)
		if err != nil {
			return reply{}, err
		}
		address = inner.Addr().String()
		ln, err := wrap(req.Kind, counted{inner, &s.arrived}, req.MaxPending)
		if err != nil {
			return reply{}, err
		}
		l.all = append(l.all, ln)
	}
	s.listeners = append(s.listeners, l)
	if req.Handler == "relay" || req.Handler == "relay n" {
		l.sink = s.listeners[len(s.listeners)-2].all[0]
	}
	if !req.Hold && req.Handler != "sink" {
		go l.serve(l.all[0])
	}
	return reply{Addr: address}, nil
}

// shareAddress lets several sockets listen on one address.
func shareAddress(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
	return errors.Join(err, failed)
}

// counted counts what a listener of the kernel's returns. It costs all contenders the same.
type counted struct {
	net.Listener
	arrived *atomic.Int64
}

func (c counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.arrived.Add(1)
	}
	return conn, err
}

// drain serves the connections that have filled the backlog of the last listener, with as many
// accept loops as req.Sockets says, at least one, and tells what that took.
func (s *server) drain(req request) (reply, error) {
	l := s.listeners[len(s.listeners)-1]
	loops := max(1, req.Sockets)
	var left atomic.Int64
	left.Store(int64(req.Conns))
	errs := make([]error, loops)
	before := s.stat()
	start, cpu := time.Now(), processTime()
	if loops == 1 {
		errs[0] = takeAll(l.all[0], req.Want, &left)
	} else {
		var wg sync.WaitGroup
		for i := range loops {
			wg.Go(func() {
				errs[i] = takeAll(l.all[i%len(l.all)], req.Want, &left)
				if left.Load() <= 0 { // what another loop waits for doesn't come
					for _, ln := range l.all {
						ln.Close()
					}
				}
			})
		}
		wg.Wait()
	}
	rep := reply{Elapsed: time.Since(start), CPU: processTime() - cpu}
	after := s.stat()
	rep.Allocs, rep.Bytes = after.Allocs-before.Allocs, after.Bytes-before.Bytes
	return rep, errors.Join(errs...)
}

// takeAll accepts, asks who the client is, reads the payload and closes, until all are served.
func takeAll(ln net.Listener, want int, left *atomic.Int64) error {
	buf := make([]byte, 4096)
	for left.Load() > 0 {
		c, err := ln.Accept()
		if err != nil {
			if left.Load() <= 0 && errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		if c.RemoteAddr() == nil {
			return errors.New("a connection from nobody")
		}
		for n := 0; n < want; {
			k, err := c.Read(buf)
			if err != nil {
				return err
			}
			n += k
		}
		c.Close()
		left.Add(-1)
	}
	return nil
}

func (s *server) stat() reply {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return reply{
		CPU:    processTime(),
		Allocs: m.Mallocs, Bytes: m.TotalAlloc,
		Live:       m.HeapAlloc + m.StackInuse,
		Goroutines: runtime.NumGoroutine(),
		Arrived:    s.arrived.Load(),
		Done:       s.done.Load(),
	}
}

// processTime is the CPU time that this process has used, in the kernel and outside.
func processTime() time.Duration {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func (l *serving) serve(ln net.Listener) {
	if l.req.Handler == "http" {
		answer := []byte("hello\n")
		server := http.Server{Handler: http.HandlerFunc(
			func(w http.ResponseWriter, _ *http.Request) { w.Write(answer) })}
		log.Print(server.Serve(ln))
		return
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			log.Print(err)
			return
		}
		switch l.req.Handler {
		case "short":
			go l.answer(c)
		case "file":
			go l.sendFile(c)
		case "relay", "relay n":
			sink, err := l.sink.Accept()
			if err != nil {
				log.Print(err)
				return
			}
			go l.relay(c, sink)
		}
	}
}

var answer [lenPayload]byte

// answer is a whole short connection.
func (l *serving) answer(c net.Conn) {
	defer c.Close()
	if c.RemoteAddr() == nil {
		return
	}
	buf := make([]byte, 256)
	for n := 0; n < l.req.Want; {
		k, err := c.Read(buf)
		if err != nil {
			return
		}
		n += k
	}
	c.Write(answer[:])
	l.server.done.Add(1)
}

func (l *serving) relay(source, sink net.Conn) {
	if source.RemoteAddr() == nil || sink.RemoteAddr() == nil { // has armon read the header
		return
	}
	var err error
	if l.req.Handler == "relay" {
		_, err = io.Copy(sink, source)
	} else {
		_, err = io.CopyN(sink, source, l.req.Size)
	}
	if err != nil {
		log.Print(err)
	}
	sink.Close()
	source.Close()
}

func (l *serving) sendFile(c net.Conn) {
	defer c.Close()
	if c.RemoteAddr() == nil {
		return
	}
	f, err := os.Open(l.req.File)
	if err != nil {
		log.Print(err)
		return
	}
	defer f.Close()
	if _, err := io.Copy(c, f); err != nil {
		log.Print(err)
	}
}
