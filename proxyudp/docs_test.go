package proxyudp

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// The page's table says what comes of a datagram, by the Action: it is made here of what does.
func TestTableOfDatagrams(t *testing.T) {
	page, err := os.ReadFile("../docs/udp.md")
	require.NoError(t, err)
	actions := []proxyproto.Action{proxyproto.Require, proxyproto.Optional, proxyproto.Ignore,
		proxyproto.Skip, proxyproto.Reject}
	header, local := packet(t, testHeader(), ""), packet(t, localHeader, "")
	unspec := packet(t, proxyproto.Header{Version: proxyproto.V2, Command: proxyproto.Proxy}, "")
	refuse := func(proxyproto.Peer, *proxyproto.Header) error { return errors.New("not from here") }
	table := "| a datagram with |"
	for _, a := range actions {
		table += fmt.Sprintf(" %v |", a)
	}
	table += "\n|---|---|---|---|---|---|\n"
	for _, row := range []struct {
		name, datagram string
		cfg            Config
		session        bool
	}{
		{"a header, version 2", header + "hello", Config{}, false},
		{"a header, version 1", testLineV1 + "hello", Config{}, false},
		{"a header and nothing after it", header, Config{}, false},
		{"LOCAL", local + "hello", Config{}, false},
		{"UNKNOWN", "PROXY UNKNOWN\r\nhello", Config{}, false},
		{"UNSPEC", unspec + "hello", Config{}, false},
		{"no header", "hello", Config{}, false},
		{"no header, in a session", "hello", Config{Sessions: 1}, true},
		{"no byte at all", "", Config{}, false},
		{"too little to tell (`PRO`)", "PRO", Config{}, false},
		{"a header cut off", header[:20], Config{}, false},
		{"a malformed header", strings.Replace(header, "\x21", "\x2f", 1), Config{}, false},
		{"a header over MaxHeaderSize", header + "hello", Config{MaxHeaderSize: 27}, false},
		{"a header of another version", header + "hello",
			Config{Versions: []proxyproto.Version{proxyproto.V1}}, false},
		{"a header that Validate refuses", header + "hello", Config{Validate: refuse}, false},
		{"two headers", header + header + "hello", Config{}, false},
	} {
		table += "| " + row.name + " |"
		for _, a := range actions {
			cfg := row.cfg
			cfg.Policy = requireAll
			table += " " + whatComes(t, cfg, a, row.datagram, row.session) + " |"
		}
		table += "\n"
	}
	assert.Contains(t, string(page), table)
}

// whatComes says in a few words what a PacketConn makes of a datagram, after one that begins a
// session.
func whatComes(t *testing.T, cfg Config, a proxyproto.Action, datagram string,
	session bool) string {
	peer := &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1).To4(), Port: 7777}
	inner := &fakePackets{local: &net.UDPAddr{}}
	drops := logDrops(&cfg)
	pc, err := NewPacketConn(inner, &cfg)
	require.NoError(t, err)
	b := make([]byte, 100)
	if session {
		inner.in = []fakePacket{{packet(t, testHeader(), "first"), peer}}
		_, _, err := pc.ReadFrom(b)
		require.NoError(t, err)
	}
	pc.SetPolicy(proxyproto.Always(a))
	inner.in = []fakePacket{{datagram, peer}}
	n, addr, err := pc.ReadFrom(b)
	if err != nil {
		require.ErrorIs(t, err, net.ErrClosed)
		if len(drops) == 0 {
			require.EqualValues(t, 1, pc.Stats().Probes)
			return "a probe"
		}
		return fmt.Sprintf("dropped: %v", (<-drops).Reason)
	}
	who := map[string]string{testSource: "the client's", peer.String(): "the peer's"}[addr.String()]
	require.NotEmpty(t, who, addr)
	switch payload := string(b[:n]); {
	case payload == datagram:
		return who + ", as it is"
	case strings.HasSuffix(datagram, payload) && (payload == "hello" || payload == ""):
		return who
	case strings.HasSuffix(datagram, payload):
		return who + ", with the second"
	}
	return "changed"
}
