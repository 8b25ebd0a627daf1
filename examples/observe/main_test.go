package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/internal/program"
)

func TestMain(m *testing.M) { program.Main(m) }

// What the Listener tells the log and the expvar, connection by connection.
func TestObserve(t *testing.T) {
	free := program.Listen(t)
	stats := free.Addr().String()
	free.Close()
	addr, lines := program.StartLogged(t, "-trust", "127.0.0.0/8", "-stats", stats)
	for range 2 {
		assert.Contains(t, <-lines, ": curl ")
	}
	ask := func(send string) string {
		c := program.Dial(t, 0, addr, send)
		require.NoError(t, c.CloseWrite())
		got, _ := io.ReadAll(c) // a dropped connection may end in a reset
		return string(got)
	}
	const request = "GET / HTTP/1.0\r\n\r\n"
	assert.Contains(t, ask("PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"+request),
		"hello 192.0.2.7:56324")
	for range 3 {
		assert.Empty(t, ask(""))
		assert.Empty(t, ask(request))
	}

	var vars struct {
		Proxyproto struct {
			Accepted, V1, Probes uint64
			Dropped              map[string]uint64
		}
	}
	require.Eventually(t, func() bool {
		resp, err := http.Get("http://" + stats + "/debug/vars")
		if err != nil {
			return false // it begins to listen in a goroutine of its own
		}
		defer resp.Body.Close()
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&vars))
		return vars.Proxyproto.Probes+vars.Proxyproto.Dropped["no header"] == 6
	}, time.Minute, time.Millisecond)
	assert.Equal(t, uint64(7), vars.Proxyproto.Accepted)
	assert.Equal(t, uint64(1), vars.Proxyproto.V1)
	assert.Equal(t, uint64(3), vars.Proxyproto.Probes)
	assert.Equal(t, map[string]uint64{"no header": 3}, vars.Proxyproto.Dropped)

	assert.Contains(t, <-lines, "not a PROXY protocol header")
	select {
	case line := <-lines:
		assert.False(t, strings.Contains(line, "dropped"), "three drops must make one record: %s", line)
	default:
	}
}
