//go:build linux

package main

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/internal/program"
)

func TestMain(m *testing.M) { program.Main(m) }

var counts = regexp.MustCompile(`accepted: (\d+) (\d+)\n`)

// The kernel deals the connections out to both sockets, by a hash of addresses and ports, and on
// each of them the client is the header's.
func TestBothSocketsServe(t *testing.T) {
	addr := program.Start(t, "-trust", "127.0.0.0/8", "-sockets", "2")
	const most = 200 // with one socket left out by chance in 2 of 10^60 runs
	for i := 1; i <= most; i++ {
		c := program.Dial(t, i, addr, fmt.Sprintf(
			"PROXY TCP4 192.0.2.7 198.51.100.1 %d 443\r\nGET / HTTP/1.0\r\n\r\n", i))
		answer, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Contains(t, string(answer), fmt.Sprintf("you are 192.0.2.7:%d\n", i))
		accepted := counts.FindStringSubmatch(string(answer))
		require.NotNil(t, accepted, "%s", answer)
		first, err := strconv.Atoi(accepted[1])
		require.NoError(t, err)
		second, err := strconv.Atoi(accepted[2])
		require.NoError(t, err)
		require.Equal(t, i, first+second)
		if first > 0 && second > 0 {
			return
		}
	}
	assert.Fail(t, "one socket got all connections")
}

// A peer that isn't trusted is closed on whichever socket it comes to.
func TestTrustHoldsOnEverySocket(t *testing.T) {
	addr := program.Start(t, "-trust", "10.0.0.0/8", "-sockets", "2")
	for i := range 20 {
		c := program.Dial(t, i, addr,
			"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\nGET / HTTP/1.0\r\n\r\n")
		answer, _ := io.ReadAll(c)
		assert.Empty(t, answer)
	}
}
