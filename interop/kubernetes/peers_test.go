//go:build linux

package kubernetes

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// Each way to the server, in each layout, under either externalTrafficPolicy: whom the socket
// sees, whether a header came, and what the Policy that docs/deploy.md has for it makes of it.
func TestPeers(t *testing.T) {
	for _, l := range layouts() {
		t.Run(l.String(), func(t *testing.T) {
			c := startCluster(t, l)
			for _, f := range families {
				t.Run(f.String(), func(t *testing.T) {
					c.checkPaths(t, f, pathsFromOutside)
					c.checkPaths(t, f, pathsFromInside)
					c.checkPaths(t, f, pathsToHost)
					for i := 1; i <= 2; i++ {
						c.announce(t, f, underCluster.vip, i)
						c.announce(t, f, underLocal.vip, i)
						c.checkPaths(t, f, pathsAnnounced(i))
					}
					c.withdraw(t, f, underCluster.vip)
					c.withdraw(t, f, underLocal.vip)
				})
			}
		})
	}
}

// checkPaths tries all paths twice, without and with the Policy.
func (c *cluster) checkPaths(t *testing.T, f family, paths []path) {
	t.Helper()
	for what, under := range map[string]struct {
		numbers
		policy proxyproto.Policy
		sight  func(path) sight
	}{
		"Cluster": {underCluster, deployPolicy(t, forCluster), func(p path) sight { return p.cluster }},
		"Local":   {underLocal, deployPolicy(t, forLocal), func(p path) sight { return p.local }},
	} {
		stillQuiet := c.expectQuiet(t, f, paths, under.numbers, under.sight)
		for _, p := range paths {
			want, to := under.sight(p), p.to(f, under.numbers)
			if want == nobody {
				continue
			}
			what := what + ": " + p.what
			c.setPolicy(proxyproto.Always(proxyproto.Skip))
			a, err := c.ask(t.Context(), p.from, to, hello)
			require.NoError(t, err, what)
			assert.Equal(t, c.address(f, want.peer), a.Peer.String(), "%s: the peer", what)
			assert.Equal(t, want.header != "", a.Header, "%s: a header came", what)

			c.setPolicy(under.policy)
			a, err = c.ask(t.Context(), p.from, to, hello)
			require.NoError(t, err, what)
			assert.Equal(t, c.address(f, want.peer), a.Peer.String(), "%s: the peer", what)
			if why, dropped := strings.CutPrefix(want.served, "dropped: "); dropped {
				assert.Equal(t, why, a.Dropped.String(), "%s: dropped", what)
				continue
			}
			assert.Zero(t, a.Dropped, "%s: dropped", what)
			assert.Equal(t, c.address(f, want.served), a.As.String(), "%s: served as", what)
			assert.Equal(t, "hello", a.Payload, "%s: the payload", what)
		}
		stillQuiet()
	}
}

// expectQuiet begins connections on all paths where nobody shall answer. What it returns ends
// them: as all others have been served since, an answer would have come.
func (c *cluster) expectQuiet(t *testing.T, f family, paths []path, s numbers,
	sight func(path) sight) (ended func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, p := range paths {
		if sight(p) == nobody {
			all.Go(func() {
				got, err := c.send(ctx, p.from, p.to(f, s), hello)
				assert.Error(t, ctx.Err(), "%s: an answer: %q, %v", p.what, got, err)
			})
		}
	}
	return func() {
		cancel()
		all.Wait()
	}
}
