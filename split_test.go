package proxyproto

import (
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The table of wire bytes through a listening socket, each row cut in two at every byte: the
// outcome is that of Parse, whatever arrived when.
func TestTableThroughSocket(t *testing.T) {
	const shards = 4
	cases := wireCases()
	var connections sync.Map
	t.Run("split", func(t *testing.T) {
		for shard := range shards {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				s := newSplitter(t)
				for i := shard; i < len(cases); i += shards {
					s.row(cases[i])
				}
				connections.Store(shard, s.connections)
			})
		}
	})
	total := 0
	for _, n := range connections.Range {
		total += n.(int)
	}
	t.Logf("%d rows in %d connections", len(cases), total)
}

// splitter sends a table's rows to a Listener.
type splitter struct {
	t           *testing.T
	ln          *Listener
	accepted    chan net.Conn
	drops       *dropLog
	connections int
}

func newSplitter(t *testing.T) *splitter {
	cfg := &Config{Policy: Always(Require), MaxHeaderSize: maxHeader}
	s := &splitter{t: t, drops: logDrops(cfg), accepted: make(chan net.Conn, 1)}
	s.ln = listen(t, cfg)
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

// row sends a row whole, and cut at every byte of its header; of a long one at its beginning
// and its end.
func (s *splitter) row(row wireCase) {
	const most = 300
	for cut := range row.wire {
		if cut < most || cut > len(row.wire)-10 {
			s.send(row, cut)
		}
	}
}

func (s *splitter) send(row wireCase, cut int) {
	t := s.t
	s.connections++
	c, err := net.Dial("tcp", s.ln.Addr().String())
	require.NoError(t, err)
	client := c.(*net.TCPConn)
	defer client.Close()
	before := s.ln.Stats()
	decided := func(stats Stats) bool {
		return stats.TotalDropped()+stats.V1+stats.V2+stats.Local > before.TotalDropped()+before.V1+before.V2+before.Local
	}
	if cut > 0 {
		_, err = client.Write(row.wire[:cut])
		require.NoError(t, err)
		// The second part is sent when the first has been read, or has decided all.
		for stats := s.ln.Stats(); stats.Pending == 0 && !decided(stats); stats = s.ln.Stats() {
			runtime.Gosched()
		}
	}
	client.Write(row.wire[cut:]) // which may find the connection refused
	client.CloseWrite()
	if row.err == nil {
		server := <-s.accepted
		defer server.Close()
		conn, ok := FromConn(server)
		require.True(t, ok)
		assert.Equal(t, row.want, *conn.Header(), "%s cut at %d", row.name, cut)
		payload, err := io.ReadAll(server)
		assert.NoError(t, err)
		assert.Equal(t, row.wire[row.n:], payload, "%s cut at %d", row.name, cut)
		return
	}
	drop := s.drops.next(t)
	assert.ErrorIs(t, drop, row.err, "%s cut at %d", row.name, cut)
	var fault *FormatError
	if errors.As(drop, &fault) {
		assert.Equal(t, row.offset, fault.Offset(), "%s cut at %d", row.name, cut)
	}
	// The next row must not meet this one's end in the counts.
	for s.ln.Stats().Pending > 0 {
		runtime.Gosched()
	}
}

// The same for a lazy connection, whose header is read by the user's Read and comes byte by byte.
func TestTableThroughLazyConn(t *testing.T) {
	for _, row := range wireCases() {
		if len(row.wire) > 2000 || len(row.wire) == 0 {
			continue
		}
		client, server := net.Pipe()
		c, err := NewConn(server, &Config{Policy: Always(Require), MaxHeaderSize: maxHeader})
		require.NoError(t, err)
		go func() {
			defer client.Close()
			for i := range row.wire {
				if _, err := client.Write(row.wire[i : i+1]); err != nil {
					return
				}
			}
		}()
		payload, err := io.ReadAll(c)
		if row.err == nil {
			assert.NoError(t, err, row.name)
			assert.Equal(t, row.want, *c.Header(), row.name)
			assert.Equal(t, string(row.wire[row.n:]), string(payload), row.name)
		} else {
			assert.ErrorIs(t, err, row.err, row.name)
			assert.Empty(t, payload, row.name)
			assert.Nil(t, c.Header(), row.name)
		}
		c.Close()
	}
}
