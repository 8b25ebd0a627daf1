package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	armon "github.com/armon/go-proxyproto"
	mastercactapus "github.com/mastercactapus/proxyprotocol"
	pires "github.com/pires/go-proxyproto"
	"github.com/seed2e8fe8ee/proxyproto"
)

// nameLazy is the library with Config.Lazy set.
const nameLazy = "proxyproto, lazy"

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
func wantFor(kind string) int {
	if kind == nameBare {
		return len(headerFor(kind)) + lenPayload
	}
	return lenPayload
}

// server is the helper that accepts.
type server struct {
	accepted  atomic.Int64
	listeners []*serving
}

// serving is a listener and what is done with its connections.
type serving struct {
	server *server
	ln     net.Listener
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
				go l.serve()
			}
		}
		return reply{}, nil
	case "mark":
		os.Stat(markFile)
		return reply{}, nil
	case "stat":
		return s.stat(), nil
	case "collect once":
		runtime.GC()
		return reply{}, nil
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
	inner, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+os.Getpid()>>8%250, 1+os.Getpid()%250, 1+len(s.listeners)%250))
	if err != nil {
		return reply{}, err
	}
	ln, err := wrap(req.Kind, inner, req.MaxPending)
	if err != nil {
		return reply{}, err
	}
	l := &serving{server: s, ln: ln, req: req}
	s.listeners = append(s.listeners, l)
	if req.Handler == "relay" || req.Handler == "relay n" {
		l.sink = s.listeners[len(s.listeners)-2].ln
	}
	if !req.Hold && req.Handler != "sink" {
		go l.serve()
	}
	return reply{Addr: inner.Addr().String()}, nil
}

func (s *server) stat() reply {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return reply{
		CPU:    time.Duration(usage.Utime.Nano() + usage.Stime.Nano()),
		Allocs: m.Mallocs, Bytes: m.TotalAlloc,
		Live:     m.HeapAlloc + m.StackInuse,
		Accepted: s.accepted.Load(),
	}
}

func (l *serving) serve() {
	if l.req.Handler == "http" {
		answer := []byte("hello\n")
		server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(answer) })}
		log.Print(server.Serve(l.ln))
		return
	}
	for {
		c, err := l.ln.Accept()
		if err != nil {
			log.Print(err)
			return
		}
		switch l.req.Handler {
		case "short":
			go l.answer(c)
		case "idle":
			go l.idle(c)
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
		k, err := c.Read(buf[n:])
		if err != nil {
			return
		}
		n += k
	}
	c.Write(answer[:])
	l.server.accepted.Add(1)
}

// idle waits for a connection's first byte, which doesn't come.
func (l *serving) idle(c net.Conn) {
	if c.RemoteAddr() != nil {
		l.server.accepted.Add(1)
	}
	var b [1]byte
	c.Read(b[:])
	c.Close()
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
