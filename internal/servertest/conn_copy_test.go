package servertest

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/seed2e8fe8ee/proxyproto"
)

// Copies in every direction: all bytes arrive, those that came with the header first.
func TestCopies(t *testing.T) {
	payload := strings.Repeat("0123456789abcdef", 1<<14)
	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	_, err = file.WriteString(payload)
	require.NoError(t, err)
	for kind, wrap := range connKinds {
		sent := payload
		if kind != "skipped" && kind != "handed over" {
			sent = testLineV1 + payload
		}
		// source returns a wrapped connection that brings the payload and then ends.
		source := func(t *testing.T) *Conn {
			client, server := tcpPair(t)
			send := func() {
				io.WriteString(client, sent)
				client.CloseWrite()
			}
			if kind == "handed over" {
				defer func() { go send() }()
			} else {
				go send()
			}
			return wrap(t, server)
		}
		// sink returns a connection and what arrives at its other end until it is closed.
		sink := func(t *testing.T) (*net.TCPConn, <-chan string) {
			client, server := tcpPair(t)
			got := make(chan string, 1)
			go func() {
				b, _ := io.ReadAll(client)
				got <- string(b)
			}()
			return server, got
		}
		wrappedSink := func(t *testing.T) (*Conn, <-chan string) {
			server, got := sink(t)
			c, err := NewConn(server, &Config{Policy: Always(Skip)})
			require.NoError(t, err)
			return c, got
		}
		check := func(
			t *testing.T, to net.Conn, got <-chan string, n int64, err error, want string,
		) {
			require.NoError(t, err)
			assert.Equal(t, int64(len(want)), n)
			require.NoError(t, to.(interface{ CloseWrite() error }).CloseWrite())
			assert.True(t, want == <-got)
		}
		t.Run(kind+" to a socket", func(t *testing.T) {
			to, got := sink(t)
			n, err := io.Copy(to, source(t))
			check(t, to, got, n, err, payload)
		})
		t.Run(kind+" to another", func(t *testing.T) {
			to, got := wrappedSink(t)
			n, err := io.Copy(to, source(t))
			check(t, to, got, n, err, payload)
		})
		t.Run(kind+" to a writer", func(t *testing.T) {
			var to strings.Builder
			n, err := io.Copy(&to, source(t))
			require.NoError(t, err)
			assert.Equal(t, int64(len(payload)), n)
			assert.True(t, payload == to.String())
		})
		for _, n := range []int64{0, 1, 100, int64(len(payload)) - 1, int64(len(payload))} {
			t.Run(kind+" to another, n bytes", func(t *testing.T) {
				to, got := wrappedSink(t)
				from := source(t)
				copied, err := io.CopyN(to, from, n)
				check(t, to, got, copied, err, payload[:n])
				rest, err := io.ReadAll(from)
				require.NoError(t, err)
				assert.True(t, payload[n:] == string(rest),
					"what wasn't copied must still be there")
			})
		}
		t.Run(kind+" to another, more than there is", func(t *testing.T) {
			to, got := wrappedSink(t)
			n, err := io.CopyN(to, source(t), int64(len(payload))+1)
			assert.ErrorIs(t, err, io.EOF)
			check(t, to, got, n, nil, payload)
		})
	}
	t.Run("a file", func(t *testing.T) {
		client, server := tcpPair(t)
		c, err := NewConn(server, &Config{Policy: Always(Skip)})
		require.NoError(t, err)
		_, err = file.Seek(0, io.SeekStart)
		require.NoError(t, err)
		go func() {
			io.Copy(c, file)
			c.CloseWrite()
		}()
		got, err := io.ReadAll(client)
		require.NoError(t, err)
		assert.True(t, payload == string(got))
	})
}

// brokenWriter takes some bytes and then fails.
type brokenWriter struct {
	room int
	err  error
}

func (w *brokenWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.room)
	w.room -= n
	if n < len(p) {
		return n, w.err
	}
	return n, nil
}

func TestWhatAWriterDoesntTakeStays(t *testing.T) {
	for _, fault := range []error{errors.New("full"), nil} {
		client, server := tcpPair(t)
		_, err := io.WriteString(client, testLineV1+"payload")
		require.NoError(t, err)
		c := connKinds["accepted"](t, server)
		n, err := c.WriteTo(&brokenWriter{3, fault})
		assert.Equal(t, int64(3), n)
		if fault == nil {
			fault = io.ErrShortWrite
		}
		assert.ErrorIs(t, err, fault)
		assert.Equal(t, "load", readString(t, c, 4))
	}
}

func TestLazyWriteTo(t *testing.T) {
	client, server := tcpPair(t)
	c := connKinds["lazy"](t, server)
	require.NoError(t, client.Close()) // a probe: an end like any other
	n, err := io.Copy(io.Discard, c)
	assert.Zero(t, n)
	assert.NoError(t, err)

	client, server = tcpPair(t)
	c = connKinds["lazy"](t, server)
	_, err = io.WriteString(client, "GET / HTTP/1.0\r\n\r\n")
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, c)
	assert.ErrorIs(t, err, ErrNoHeader)
}

// eofWriter fails as a connection doesn't.
type eofWriter struct{ net.Conn }

func (eofWriter) Write([]byte) (int, error) { return 0, io.EOF }

// io.Copy reports a writer's io.EOF, as it does for a bare connection; only the reader's is the
// end.
func TestWritersEOFIsAnError(t *testing.T) {
	client, server := tcpPair(t)
	_, err := io.WriteString(client, testLineV1+"payload")
	require.NoError(t, err)
	c := connKinds["accepted"](t, server)
	_, err = io.Copy(eofWriter{}, c)
	assert.Equal(t, io.EOF, err)

	failing, err := NewConn(eofWriter{server}, &Config{Policy: Always(Skip)})
	require.NoError(t, err)
	_, err = failing.ReadFrom(io.LimitReader(c, 7))
	assert.Equal(t, io.EOF, err)
	assert.Equal(t, "payload", readString(t, c, 7), "what the writer didn't take stays")
}

func TestCopyOfNothingDoesntWait(t *testing.T) {
	_, server := tcpPair(t)
	lazy := connKinds["lazy"](t, server)
	_, other := tcpPair(t)
	n, err := io.CopyN(connKinds["skipped"](t, other), lazy, 0)
	assert.Zero(t, n)
	assert.NoError(t, err)
	n2, err := lazy.Read(nil)
	assert.Zero(t, n2)
	assert.NoError(t, err)
}
