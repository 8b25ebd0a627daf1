package main

import (
	"io"
	"net"
	"net/textproto"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

func TestServerSpeaksFirst(t *testing.T) {
	text := dial(t)
	_, greeting, err := text.ReadResponse(220) // nobody has sent a byte
	require.NoError(t, err)
	assert.Equal(t, "mx.example ESMTP", greeting)

	_, err = io.WriteString(text.W, "PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\r\n")
	require.NoError(t, err)
	require.NoError(t, text.PrintfLine("EHLO me.example"))
	_, hello, err := text.ReadResponse(250)
	require.NoError(t, err)
	assert.Equal(t, "mx.example greets 192.0.2.7:56324", hello)
	require.NoError(t, text.PrintfLine("QUIT"))
	_, _, err = text.ReadResponse(221)
	require.NoError(t, err)
}

func TestClientWithoutHeaderIsClosed(t *testing.T) {
	text := dial(t)
	_, _, err := text.ReadResponse(220)
	require.NoError(t, err)
	require.NoError(t, text.PrintfLine("EHLO me.example"))
	line, err := text.ReadLine()
	assert.Empty(t, line)
	assert.Error(t, err)
	assert.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

func dial(t *testing.T) *textproto.Conn {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ln, err := newListener(inner, proxyproto.Always(proxyproto.Require))
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	go serve(ln)
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	return textproto.NewConn(c)
}
