package agent

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed2e8fe8ee/proxyproto/toa/internal/sockopt"
)

// A server that never sleeps in accept, and asks at once, and clients that never stop: the answer is
// there. The fewest system calls between accept and the question are the hardest case, so the server
// is made of bare ones. For MPTCP one answer in some thousand would be early.
func TestNoAnswerIsEarly(t *testing.T) {
	for _, tc := range []struct {
		name           string
		server, client bool
	}{{"TCP", false, false}, {"MPTCP server", true, false}, {"MPTCP", true, true}} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.server {
				requireMPTCP(t)
			}
			attach(t, all)
			s := newSender(t, cgroup)
			inner := listen(t, "tcp4", "127.0.0.1:0", tc.server)
			const clients = 12_000
			missing := make(chan int)
			go func() { missing <- acceptBusily(t, inner, clients) }()
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					for i := range clients / 3 {
						c, err := s.dial("tcp4", inner.Addr().String(), option(254, claim4(i)), sendAll, tc.client)
						if !assert.NoError(t, err) {
							return
						}
						c.SetLinger(0)
						c.Close()
					}
				})
			}
			wg.Wait()
			assert.Zero(t, <-missing, "of %d", clients)
		})
	}
}

// acceptBusily accepts connections and returns how many of them have no option.
func acceptBusily(t *testing.T, inner net.Listener, connections int) (missing int) {
	socket, err := inner.(*net.TCPListener).SyscallConn()
	require.NoError(t, err)
	deadline := time.Now().Add(time.Minute)
	assert.NoError(t, socket.Control(func(fd uintptr) {
		for connections > 0 && time.Now().Before(deadline) {
			accepted, _, err := unix.Accept4(int(fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			if err != nil {
				continue
			}
			connections--
			var a sockopt.Answer
			if err := sockopt.Ask(accepted, &a); err != nil || a[sockopt.Family] != 4 {
				missing++
			}
			unix.Close(accepted)
		}
	}))
	return missing + connections
}
