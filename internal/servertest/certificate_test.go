package servertest

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/seed2e8fe8ee/proxyproto"
)

// A proxy is known by its client certificate: Validate sees the finished handshake, and drops who
// has a verified certificate with another name. Who has none fails in the handshake.
func TestProxyIsKnownByItsCertificate(t *testing.T) {
	certificate, roots := testCertificate(t)
	for _, test := range []struct {
		name, wanted string
		shown        []tls.Certificate
		dropped      Reason
	}{
		{"ours", "127.0.0.1", []tls.Certificate{certificate}, 0},
		{"another's", "127.0.0.2", []tls.Certificate{certificate}, ReasonInvalid},
		{"none", "127.0.0.1", nil, ReasonBroken},
	} {
		t.Run(test.name, func(t *testing.T) {
			inner, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			cfg := &Config{
				Policy: Always(Require),
				Validate: func(p Peer, _ *Header) error {
					chains := p.Conn.(*tls.Conn).ConnectionState().VerifiedChains
					if len(chains) == 0 || chains[0][0].VerifyHostname(test.wanted) != nil {
						return errors.New("not our proxy's certificate")
					}
					return nil
				},
			}
			drops := logDrops(cfg)
			ln, err := NewListener(tls.NewListener(inner, &tls.Config{
				Certificates: []tls.Certificate{certificate},
				ClientAuth:   tls.RequireAndVerifyClientCert,
				ClientCAs:    roots,
			}), cfg)
			require.NoError(t, err)
			defer ln.Close()
			accepted := make(chan net.Conn, 1)
			go func() {
				if c, err := ln.Accept(); err == nil {
					accepted <- c
				}
			}()

			proxy, err := tls.Dial("tcp", inner.Addr().String(),
				&tls.Config{RootCAs: roots, Certificates: test.shown})
			require.NoError(t, err)
			defer proxy.Close()
			io.WriteString(proxy, testLineV1)
			if test.dropped != 0 {
				assert.Equal(t, test.dropped, drops.next(t).Reason)
				return
			}
			c := <-accepted
			defer c.Close()
			assertTestClient(t, c)
		})
	}
}
