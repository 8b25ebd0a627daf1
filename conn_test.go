package proxyproto

import (
	"context"
	"io"
	"net"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the state of a connection must be; internal/servertest has what its users see.

func (g *gate) hasBegun() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.begun
}

// A header claims a size; memory is made for it only up to MaxHeaderSize.
func TestBufferGrowsNoFurtherThanAllowed(t *testing.T) {
	for _, limit := range []int{0, 10000, maxHeader} {
		cfg := &Config{Policy: Always(Require), MaxHeaderSize: limit}
		client, server := net.Pipe()
		go io.WriteString(client, signatureV2+"\x21\x11\xff\xf0")
		c, err := NewConn(server, cfg)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		if limit == maxHeader {
			go func() { // once the 16 bytes are there, no more come
				for !c.gate.Load().hasBegun() {
					runtime.Gosched()
				}
				cancel()
			}()
		}
		err = c.ReadHeader(ctx)
		cancel()
		var drop *DropError
		if limit < maxHeader {
			require.ErrorAs(t, err, &drop)
			assert.Equal(t, ReasonTooLarge, drop.Reason)
			continue
		}
		assert.ErrorIs(t, err, context.Canceled)
		assert.Less(t, len(c.gate.Load().reader.buf.data), maxHeader+2*defaultMaxHeaderSize)
	}
}

// The end of a context leaves nothing behind when it meets ReadHeader's return for another reason.
func TestCanceledLeavesNothingBehind(t *testing.T) {
	const rounds = 20000
	failed := 0
	for range rounds {
		client, server := net.Pipe()
		c, err := NewConn(server, &Config{Policy: Always(Require)})
		require.NoError(t, err)
		c.SetReadDeadline(aLongTimeAgo)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan bool)
		go func() { cancel(); close(done) }()
		c.ReadHeader(ctx)
		<-done
		runtime.Gosched()
		g := c.gate.Load()
		for range 3 {
			runtime.Gosched()
		}
		g.mu.Lock()
		if g.canceled {
			failed++
		}
		g.mu.Unlock()
		client.Close()
		server.Close()
	}
	assert.Zero(t, failed, "of %d", rounds)
}

// What came with the header is kept only until it is read.
func TestNothingStaysBuffered(t *testing.T) {
	for _, size := range []int{1, 7, 1 << 14} {
		client, server := net.Pipe()
		c, err := NewConn(server, &Config{Policy: Always(Require)})
		require.NoError(t, err)
		go io.WriteString(client, "PROXY UNKNOWN\r\npayload")
		require.NoError(t, c.ReadHeader(t.Context()))
		assert.NotNil(t, c.prefix.Load())
		for got, b := 0, make([]byte, size); got < len("payload"); {
			n, err := c.Read(b)
			require.NoError(t, err)
			got += n
		}
		assert.Nil(t, c.prefix.Load())
	}
}
