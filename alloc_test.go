package proxyproto

import (
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/internal/testenv"
	"github.com/seed2e8fe8ee/proxyproto/internal/wiretest"
)

// An allocServer accepts connections from this process, one after the other, and reads their
// payload. What its client allocates is the same whatever the listener is.
type allocServer struct {
	t        *testing.T
	ln       net.Listener
	accept   chan struct{}
	accepted chan net.Conn
	payload  [5]byte
}

func newAllocServer(t *testing.T, cfg *Config) *allocServer {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &allocServer{t: t, ln: inner, accept: make(chan struct{}), accepted: make(chan net.Conn)}
	if cfg != nil {
		s.ln, err = NewListener(inner, cfg)
		require.NoError(t, err)
	}
	go func() {
		for range s.accept {
			c, err := s.ln.Accept()
			if err != nil {
				return
			}
			s.accepted <- c
		}
	}()
	t.Cleanup(func() {
		close(s.accept)
		inner.Close()
	})
	return s
}

// together is a connection whose header has arrived before it is accepted.
func (s *allocServer) together(header []byte) {
	client := s.dial()
	defer client.Close()
	s.write(client, header)
	s.accept <- struct{}{}
	s.serve(client, len(header))
}

// apart is a connection whose header comes when the server waits for it.
func (s *allocServer) apart(header []byte) {
	client := s.dial()
	defer client.Close()
	s.accept <- struct{}{}
	if ln, ok := s.ln.(*Listener); ok && !ln.cfg.Lazy {
		for pending := 0; pending == 0; runtime.Gosched() {
			ln.mu.Lock()
			pending = ln.waiting.n // Stats would allocate
			ln.mu.Unlock()
		}
	}
	s.write(client, header)
	s.serve(client, len(header))
}

func (s *allocServer) dial() net.Conn {
	c, err := net.Dial("tcp", s.ln.Addr().String())
	require.NoError(s.t, err)
	return c
}

// write lets the compiler keep what is written where it is.
func (s *allocServer) write(c net.Conn, b []byte) {
	_, err := c.Write(b)
	require.NoError(s.t, err)
}

// serve takes the accepted connection's payload; a bare one's begins with the header.
func (s *allocServer) serve(client net.Conn, header int) {
	c := <-s.accepted
	s.write(client, s.payload[:])
	if _, ok := c.(*Conn); ok {
		header = 0
	}
	for ; header > 0; header -= len(s.payload) {
		_, err := io.ReadFull(c, s.payload[:min(header, len(s.payload))])
		require.NoError(s.t, err)
	}
	_, err := io.ReadFull(c, s.payload[:])
	require.NoError(s.t, err)
	require.NotNil(s.t, c.RemoteAddr())
	c.Close()
}

func TestConnAllocs(t *testing.T) {
	if testenv.Race {
		t.Skip("the race detector allocates")
	}
	// A collection would empty the pools.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))

	plain := wiretest.V2(0x21, 0x11, wiretest.Inet4)
	withTLVs := wiretest.V2(0x21, 0x11, wiretest.Inet4, wiretest.TLV(0x02, "www.example.com"))
	const line = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
	eager := &Config{Policy: Always(Require)}
	lazy := &Config{Policy: Always(Require), Lazy: true}
	for _, c := range []struct {
		name   string
		header string
		cfg    *Config
		way    func(*allocServer, []byte)
		most   float64
	}{
		{"header and payload together", plain, eager, (*allocServer).together, 2},
		{"version 1", line, eager, (*allocServer).together, 2},
		{"with TLVs", withTLVs, eager, (*allocServer).together, 3},
		{"header in its own segment", plain, eager, (*allocServer).apart, 2},
		{"header in its own segment, with TLVs", withTLVs, eager, (*allocServer).apart, 3},
		{"lazy, together", plain, lazy, (*allocServer).together, 2},
		{"lazy, header in its own segment", plain, lazy, (*allocServer).apart, 2},
		{"lazy, with TLVs", withTLVs, lazy, (*allocServer).apart, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			header := []byte(c.header)
			bare, ours := newAllocServer(t, nil), newAllocServer(t, c.cfg)
			// The first connections fill the pools.
			c.way(bare, header)
			c.way(ours, header)
			const runs = 100
			more := testing.AllocsPerRun(runs, func() { c.way(ours, header) }) -
				testing.AllocsPerRun(runs, func() { c.way(bare, header) })
			t.Logf("%g allocations more than a bare connection", more)
			assert.LessOrEqual(t, more, c.most)
		})
	}
}
