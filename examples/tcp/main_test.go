package main

import (
	"bufio"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/internal/program"
)

func TestMain(m *testing.M) { program.Main(m) }

func TestServerSpeaksFirst(t *testing.T) {
	addr := program.Start(t, "-trust", "127.0.0.0/8")
	c := program.Dial(t, 0, addr, "PROXY TCP4 192.0.2.7 198.51.100.1 56324 7\r\n")
	r := bufio.NewReader(c)
	greeting, err := r.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "you are 192.0.2.7:56324; v1 PROXY TCP4 192.0.2.7:56324 -> 198.51.100.1:7 by "+
		c.LocalAddr().String()+"\n", greeting)
	_, err = io.WriteString(c, "hello\n")
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	rest, err := io.ReadAll(r)
	require.NoError(t, err)
	assert.Equal(t, "hello\n", string(rest))
}

func TestHealthCheckIsQuiet(t *testing.T) {
	addr, lines := program.StartLogged(t, "-trust", "127.0.0.0/8")
	const local = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
	got, _ := io.ReadAll(program.Dial(t, 0, addr, local+"NOOP\r\n")) // it may end in a reset
	assert.Empty(t, got)
	c := program.Dial(t, 0, addr, local)
	require.NoError(t, c.Close())
	io.ReadAll(program.Dial(t, 0, addr, "nonsense\n"))
	assert.Contains(t, <-lines, "nonsense", "the first line of the log")
}
