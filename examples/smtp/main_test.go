package main

import (
	"io"
	"net"
	"net/textproto"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/internal/program"
)

func TestMain(m *testing.M) { program.Main(m) }

const header = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\r\n"

func greeted(t *testing.T, addr string) (*textproto.Conn, net.Conn) {
	t.Helper()
	c := program.Dial(t, 0, addr, "")
	text := textproto.NewConn(c)
	_, greeting, err := text.ReadResponse(220) // nobody has sent a byte
	require.NoError(t, err)
	assert.Equal(t, "mx.example ESMTP", greeting)
	return text, c
}

func TestServerSpeaksFirst(t *testing.T) {
	text, c := greeted(t, program.Start(t, "-trust", "127.0.0.0/8"))
	_, err := io.WriteString(c, header)
	require.NoError(t, err)
	require.NoError(t, text.PrintfLine("EHLO me.example"))
	_, hello, err := text.ReadResponse(250)
	require.NoError(t, err)
	assert.Equal(t, "mx.example greets 192.0.2.7:56324; v1 PROXY TCP4 192.0.2.7:56324 -> "+
		"198.51.100.1:25 by "+c.LocalAddr().String(), hello)
	require.NoError(t, text.PrintfLine("QUIT"))
	_, _, err = text.ReadResponse(221)
	require.NoError(t, err)
}

func TestClientWithoutHeaderIsClosed(t *testing.T) {
	addr, lines := program.StartLogged(t, "-trust", "127.0.0.0/8")
	text, _ := greeted(t, addr)
	require.NoError(t, text.PrintfLine("EHLO me.example"))
	line, err := text.ReadLine()
	assert.Empty(t, line)
	assert.Error(t, err)
	assert.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	assert.Contains(t, <-lines, "not a PROXY protocol header")
}

// A line without an end fills no memory.
func TestEndlessLine(t *testing.T) {
	text, c := greeted(t, program.Start(t, "-trust", "127.0.0.0/8"))
	go io.WriteString(c, header+strings.Repeat("x", 10*maxLine))
	_, _, err := text.ReadResponse(500)
	require.NoError(t, err)
}
