package docs

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// The log lines that README.md explains are those that a server writes, in that order, with the
// time left out, the peer's address always the same, and what a stranger sent cut off.
func TestReadmeLogLines(t *testing.T) {
	proxies := proxyproto.Trust(netip.MustParsePrefix("127.0.0.1/32"))
	var lines strings.Builder
	lines.WriteString(logLine(t, plain, proxyproto.Trust(), "PROXY TCP4 192.0.2.7 192.0.2.1 56324 80\r\n"))
	for _, sent := range []string{
		"GET / HTTP/1.1\r\n\r\n",
		clientHello,
		"PROXY TCP4 192.0.2.07 192.0.2.1 56324 80\r\n",
		"PROXY TCP4 192.0.",
	} {
		lines.WriteString(logLine(t, plain, proxies, sent))
	}
	assert.Equal(t, logBlock(t, "../README.md"), lines.String())
}

// So are those of tls.md: TLS where the header should be, and the header where TLS should be.
func TestTLSPageLogLines(t *testing.T) {
	proxies := proxyproto.Trust(netip.MustParsePrefix("127.0.0.1/32"))
	inTLS := func(inner net.Listener) net.Listener { return tls.NewListener(inner, new(tls.Config)) }
	assert.Equal(t, logBlock(t, "tls.md"), logLine(t, plain, proxies, clientHello)+
		logLine(t, inTLS, proxies, "PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n"))
}

const clientHello = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"

// logBlock returns the block of a page that these tests run.
func logBlock(t *testing.T, page string) string {
	t.Helper()
	_, block, found := strings.Cut(read(t, page), "<!-- run by docs/log_test.go -->\n```\n")
	require.True(t, found)
	block, _, found = strings.Cut(block, "```\n")
	require.True(t, found)
	return block
}

func plain(inner net.Listener) net.Listener { return inner }

// logLine returns what a server logs of a peer that sends this and waits.
func logLine(
	t *testing.T, wrap func(net.Listener) net.Listener, policy proxyproto.Policy, sent string,
) string {
	t.Helper()
	const timeout = time.Second // loopback is fast, and 5 s are long
	var line strings.Builder
	logger := slog.New(slog.NewTextHandler(&line, &slog.HandlerOptions{ReplaceAttr: steady}))
	logDrop := proxyproto.LogDrops(logger)
	var told sync.WaitGroup
	told.Add(1)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ln, err := proxyproto.NewListener(wrap(inner), &proxyproto.Config{
		Policy:        policy,
		HeaderTimeout: timeout,
		OnDrop: func(p proxyproto.Peer, drop *proxyproto.DropError) {
			defer told.Done()
			logDrop(p, drop)
		},
	})
	require.NoError(t, err)
	defer ln.Close()
	go ln.Accept()
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, sent)
	require.NoError(t, err)
	told.Wait()
	return strings.Replace(sentBytes.ReplaceAllString(line.String(), ""), timeout.String(), "5s", 1)
}

// steady takes out of a record what differs from run to run, and what all have.
func steady(_ []string, a slog.Attr) slog.Attr {
	switch a.Key {
	case slog.TimeKey, slog.LevelKey, slog.MessageKey:
		return slog.Attr{}
	case "peer":
		return slog.String(a.Key, "10.0.0.5:41000")
	case "hint":
		return slog.String(a.Key, strings.ReplaceAll(a.Value.String(), "127.0.0.1", "10.0.0.5"))
	}
	return a
}

// sentBytes is where an error quotes the peer.
var sentBytes = regexp.MustCompile(` \(sent .*\)`)
