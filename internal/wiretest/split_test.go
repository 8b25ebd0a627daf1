package wiretest_test

import (
	"errors"
	"io"
	"net"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/wiretest"
)

// A splitter sends the table's rows to a Listener, each cut in two at every byte: the outcome is
// the table's, whatever arrived when.
type splitter struct {
	t        *testing.T
	ln       *proxyproto.Listener
	accepted chan net.Conn
	drops    chan *proxyproto.DropError
}

// largest is the size of the longest header.
const largest = 16 + 1<<16 - 1

func newSplitter(t *testing.T) *splitter {
	s := &splitter{
		t:        t,
		accepted: make(chan net.Conn, 1),
		drops:    make(chan *proxyproto.DropError, 1),
	}
	var err error
	s.ln, err = proxyproto.Listen("tcp", "127.0.0.1:0", &proxyproto.Config{
		Policy:        proxyproto.Always(proxyproto.Require),
		MaxHeaderSize: largest,
		OnDrop:        func(_ proxyproto.Peer, drop *proxyproto.DropError) { s.drops <- drop },
	})
	require.NoError(t, err)
	t.Cleanup(func() { s.ln.Close() })
	go func() {
		for {
			c, err := s.ln.Accept()
			if err != nil {
				return
			}
			s.accepted <- c
		}
	}()
	return s
}

func TestTableThroughSocket(t *testing.T) {
	const shards = 4
	rows := wiretest.Rows()
	for shard := range shards {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			s := newSplitter(t)
			for i := shard; i < len(rows); i += shards {
				s.row(rows[i])
			}
		})
	}
}

// row sends a row whole, and cut at every byte of its header; of a long one at its beginning
// and its end.
func (s *splitter) row(row wiretest.Row) {
	const most = 300
	if row.Err == nil && row.Want.Command == wiretest.Local && row.N == len(row.Wire) {
		row.Wire = append(row.Wire, 'x') // or it would be held, to see whether it is a probe
	}
	for cut := range row.Wire {
		if cut < most || cut > len(row.Wire)-10 {
			s.send(row, cut)
		}
	}
}

// decided counts the connections whose first bytes have been judged.
func (s *splitter) decided() (n uint64) {
	stats := s.ln.Stats()
	for _, dropped := range stats.Dropped {
		n += dropped
	}
	return n + stats.V1 + stats.V2 + stats.Local + stats.Probes
}

func (s *splitter) send(row wiretest.Row, cut int) {
	t := s.t
	c, err := net.Dial("tcp", s.ln.Addr().String())
	require.NoError(t, err)
	client := c.(*net.TCPConn)
	defer client.Close()
	before := s.decided()
	if cut > 0 {
		_, err = client.Write(row.Wire[:cut])
		require.NoError(t, err)
		// The second part is sent when the first has been read, or has decided all.
		for s.ln.Stats().Pending == 0 && s.decided() == before {
			runtime.Gosched()
		}
	}
	client.Write(row.Wire[cut:]) // which may find the connection refused
	client.CloseWrite()
	var drop *proxyproto.DropError
	select {
	case server := <-s.accepted:
		defer server.Close()
		require.NoError(t, row.Err, "%s cut at %d was accepted", row.Name, cut)
		conn, ok := proxyproto.FromConn(server)
		require.True(t, ok)
		requireSame(t, row, conn.Header())
		payload, err := io.ReadAll(server)
		assert.NoError(t, err)
		assert.Equal(t, string(row.Wire[row.N:]), string(payload), "%s cut at %d", row.Name, cut)
		return
	case drop = <-s.drops:
	}
	require.Error(t, row.Err, "%s cut at %d: %v", row.Name, cut, drop)
	var fault *proxyproto.FormatError
	if errors.As(drop, &fault) {
		assert.Equal(t, row.Offset, fault.Offset, "%s cut at %d", row.Name, cut)
	}
	assert.ErrorIs(t, drop, sentinels[row.Err], "%s cut at %d", row.Name, cut)
	// The next row must not meet this one's end in the counts.
	for s.ln.Stats().Pending > 0 {
		runtime.Gosched()
	}
}

var sentinels = map[error]error{
	wiretest.ErrNoHeader:   proxyproto.ErrNoHeader,
	wiretest.ErrIncomplete: proxyproto.ErrIncomplete,
	wiretest.ErrMalformed:  proxyproto.ErrMalformed,
}

// requireSame checks that a row's header is what a connection has.
func requireSame(t *testing.T, row wiretest.Row, h *proxyproto.Header) {
	t.Helper()
	require.NotNil(t, h, row.Name)
	got := wiretest.Header{
		Version: uint8(h.Version), Command: uint8(h.Command), Protocol: uint8(h.Protocol),
		Source: h.Source, Destination: h.Destination,
		TLVs: h.TLVs, Unix: (*[216]byte)(h.Unix),
	}
	require.True(t, row.Want.Equal(got), "%s: got %v", row.Name, h)
}

// The same for a lazy connection, whose header is read by the user's Read and comes byte by byte.
func TestTableThroughLazyConn(t *testing.T) {
	for _, row := range wiretest.Rows() {
		if len(row.Wire) > 2000 || len(row.Wire) == 0 {
			continue
		}
		client, server := net.Pipe()
		c, err := proxyproto.NewConn(server, &proxyproto.Config{
			Policy:        proxyproto.Always(proxyproto.Require),
			MaxHeaderSize: largest,
		})
		require.NoError(t, err)
		go func() {
			defer client.Close()
			for i := range row.Wire {
				if _, err := client.Write(row.Wire[i : i+1]); err != nil {
					return
				}
			}
		}()
		payload, err := io.ReadAll(c)
		if row.Err == nil {
			assert.NoError(t, err, row.Name)
			requireSame(t, row, c.Header())
			assert.Equal(t, string(row.Wire[row.N:]), string(payload), row.Name)
		} else {
			assert.ErrorIs(t, err, sentinels[row.Err], row.Name)
			assert.Empty(t, payload, row.Name)
			assert.Nil(t, c.Header(), row.Name)
		}
		c.Close()
	}
}
