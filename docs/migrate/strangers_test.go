package migrate

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	armon "github.com/armon/go-proxyproto"
	"github.com/mastercactapus/proxyprotocol"
	pires "github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

var strangerAddr = &net.TCPAddr{IP: net.IPv4(203, 0, 113, 66), Port: 41000}

const proxyRange = "10.0.0.0/24"

func inProxyRange(a net.Addr) bool {
	return netip.MustParsePrefix(proxyRange).Contains(a.(*net.TCPAddr).AddrPort().Addr().Unmap())
}

// trusting are the libraries, told to believe the proxy alone.
func trusting(t *testing.T) []column {
	t.Helper()
	trust, err := pires.TrustProxyHeaderFromRanges([]string{proxyRange})
	require.NoError(t, err)
	strict, err := pires.PolicyFromRanges([]string{proxyRange}, pires.USE, pires.REJECT) // StrictWhiteListPolicy
	require.NoError(t, err)
	_, subnet, err := net.ParseCIDR(proxyRange)
	require.NoError(t, err)
	policy, err := proxyproto.ParseTrust(proxyRange)
	require.NoError(t, err)
	return []column{
		{"pires, TrustProxyHeaderFromRanges", piresPolicy(trust)},
		{"pires, StrictWhiteListPolicy", piresPolicy(strict)},
		{"armon, SourceCheck: in range", armonWith(func(a net.Addr) (bool, error) { return inProxyRange(a), nil })},
		{"mastercactapus, SetFilter", mastercactapusWith([]proxyprotocol.Rule{{Subnet: subnet, Timeout: limit}})},
		{"ours, ParseTrust", oursWith(proxyproto.Config{Policy: policy})},
	}
}

func strangerRows(t *testing.T) (rows [][]string) {
	t.Helper()
	rows = append(rows, []string{"who, with what"}, nil)
	columns := trusting(t)
	for _, c := range columns {
		rows[0] = append(rows[0], c.name)
	}
	const bare = "SSH-2.0-OpenSSH_9.2\r\n"
	for _, who := range []struct {
		what, sent string
		from       *net.TCPAddr
	}{
		{"the proxy, with a header", lineV1, proxyAddr},
		{"the proxy, without", bare, proxyAddr},
		{"a stranger, with a header", lineV1, strangerAddr},
		{"a stranger, without", bare, strangerAddr},
	} {
		row := []string{who.what}
		for _, c := range columns {
			row = append(row, inWorld(t, c.listen, func(w *world) string {
				w.send(who.from, who.sent)
				return w.outcome(w.accept(), who.from, who.sent)
			}))
		}
		rows = append(rows, row)
	}
	return rows
}

// afterwards is the outcome for a second connection, by the proxy.
func afterwards(w *world) string {
	select {
	case err := <-w.failed:
		return "Accept fails: " + err.Error()
	default:
	}
	w.send(proxyAddr, lineV1)
	return "the next connection: " + w.outcome(w.accept(), proxyAddr, lineV1)
}

// badCloser is a listener whose connections can't be closed without an error, as those that the
// other end has reset.
type badCloser struct{ net.Listener }

type badlyClosed struct{ net.Conn }

func (c badlyClosed) Close() error {
	c.Conn.Close()
	return errors.New("close failed")
}

func (ln badCloser) Accept() (net.Conn, error) {
	c, err := ln.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return badlyClosed{c}, nil
}

func withBadCloser(listen func(net.Listener) net.Listener) func(net.Listener) net.Listener {
	return func(inner net.Listener) net.Listener { return listen(badCloser{inner}) }
}

// singleRows are what only one of them does.
func singleRows(t *testing.T) [][]string {
	t.Helper()
	stranger := func(listen func(net.Listener) net.Listener) string {
		return inWorld(t, listen, func(w *world) string {
			if client := w.send(strangerAddr, lineV1); client == nil {
				return "not accepted"
			}
			w.settle()
			return afterwards(w)
		})
	}
	trust := trusting(t)
	ours := trust[len(trust)-1].listen
	piresTrust := trust[0].listen

	wrapped := fmt.Errorf("%v: %w", strangerAddr, armon.ErrInvalidUpstream)
	notWrapping := func(o pires.ConnPolicyOptions) (pires.Policy, error) {
		if !inProxyRange(o.Upstream) {
			return pires.REJECT, errors.New("who is that?")
		}
		return pires.REQUIRE, nil
	}
	checkWrapped := func(a net.Addr) (bool, error) {
		if !inProxyRange(a) {
			return false, wrapped
		}
		return true, nil
	}

	return [][]string{
		{"who", "what", "theirs", "ours"}, nil,
		{"pires", "the policy returns an error for a stranger", stranger(piresPolicy(notWrapping)), stranger(ours)},
		{"pires", "a stranger is rejected, and closing the connection fails", stranger(withBadCloser(piresTrust)), stranger(withBadCloser(ours))},
		{"armon", "SourceCheck wraps ErrInvalidUpstream", stranger(armonWith(checkWrapped)), stranger(ours)},
		{"pires", "NewConn with SKIP, and a header comes", newConnSkipPires(t), newConnSkipOurs(t)},
		{"pires", "LOCAL with addresses: the header shows", localPires(t), localOurs(t)},
		{"pires", "a TLS client without a certificate, as HAProxy reports it: `Verified()`", verifiedPires(t), verifiedOurs(t)},
		{"pires", "a version 1 header for UDP is written", formatPires(), formatOurs()},
		{"mastercactapus", "an IPv4 client of an IPv6 address, version 1, is written", writeMastercactapus(t), writeOurs()},
		{"mastercactapus", "`h, err := c.ProxyHeader()` of a broken header", typedNil(t), headerOurs(t)},
	}
}

// oneConn plays with one end of a connection on whose other end b is sent.
func oneConn(t *testing.T, b string, f func(c net.Conn) string) string {
	t.Helper()
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		client.Write([]byte(b))
		client.Close()
	}()
	defer func() { <-done }()
	defer server.Close()
	return f(endpoint{server, serverAddr, proxyAddr})
}

func newConnSkipPires(t *testing.T) string {
	return oneConn(t, lineV1+payload, func(c net.Conn) string {
		return reads(pires.NewConn(c, pires.WithPolicy(pires.SKIP)))
	})
}

func newConnSkipOurs(t *testing.T) string {
	return oneConn(t, lineV1+payload, func(c net.Conn) string {
		conn, err := proxyproto.NewConn(c, &proxyproto.Config{Policy: proxyproto.Always(proxyproto.Skip)})
		require.NoError(t, err)
		return reads(conn)
	})
}

func reads(c net.Conn) string {
	b := make([]byte, 100)
	n, err := c.Read(b)
	if err != nil {
		return "error"
	}
	if got := string(b[:n]); strings.HasPrefix(got, "PROXY") {
		return "the header is read as payload"
	}
	return "the header is taken off and ignored"
}

const localWithAddresses = signatureV2 + "\x20\x11\x00\x0c" + addressesV2

func localPires(t *testing.T) string {
	return oneConn(t, localWithAddresses, func(c net.Conn) string {
		h := pires.NewConn(c).ProxyHeader()
		require.NotNil(t, h)
		return fmt.Sprint(h.SourceAddr)
	})
}

func localOurs(t *testing.T) string {
	h, _, err := proxyproto.Parse([]byte(localWithAddresses))
	require.NoError(t, err)
	if h.SourceAddr() == nil {
		return "no address"
	}
	return h.SourceAddr().String()
}

// certless is the value of an SSL TLV with TLS, without a certificate, and verify 0.
const certless = "\x01\x00\x00\x00\x00"

func verifiedPires(t *testing.T) string {
	s, err := tlvparse.SSL(pires.TLV{Type: pires.PP2_TYPE_SSL, Value: []byte(certless + "\x21\x00\x07TLSv1.3")})
	require.NoError(t, err)
	return fmt.Sprint(s.Verified())
}

func verifiedOurs(t *testing.T) string {
	tlvs, err := proxyproto.TLVs(nil).Append(proxyproto.TypeSSL, []byte(certless+"\x21\x00\x07TLSv1.3"))
	require.NoError(t, err)
	s, ok := tlvs.SSL()
	require.True(t, ok)
	return fmt.Sprint(s.Verified())
}

func formatPires() string {
	b, err := (&pires.Header{
		Version: 1, Command: pires.PROXY, TransportProtocol: pires.UDPv4,
		SourceAddr: &net.UDPAddr{IP: net.IPv4(192, 0, 2, 7)}, DestinationAddr: &net.UDPAddr{IP: net.IPv4(198, 51, 100, 1)},
	}).Format()
	return written(b, err)
}

func formatOurs() string {
	return written((&proxyproto.Header{
		Version: proxyproto.V1, Command: proxyproto.Proxy, Protocol: proxyproto.UDP4,
		Source: netip.MustParseAddrPort(clientAddr), Destination: netip.MustParseAddrPort(destinationAddr),
	}).AppendTo(nil))
}

func written(b []byte, err error) string {
	if err != nil {
		return "an error"
	}
	return fmt.Sprintf("`%s`", strings.TrimSpace(string(b)))
}

func writeMastercactapus(t *testing.T) string {
	var b strings.Builder
	_, err := proxyprotocol.HeaderV1{
		SrcIP: net.IPv4(192, 0, 2, 7), SrcPort: 1, DestIP: net.ParseIP("2001:db8::1"), DestPort: 443,
	}.WriteTo(&b)
	return written([]byte(b.String()), err)
}

func writeOurs() string {
	return written((&proxyproto.Header{
		Version: proxyproto.V1, Command: proxyproto.Proxy, Protocol: proxyproto.TCP4,
		Source: netip.MustParseAddrPort(clientAddr), Destination: netip.MustParseAddrPort("[2001:db8::1]:443"),
	}).AppendTo(nil))
}

func typedNil(t *testing.T) string {
	return oneConn(t, "PROXY TCP4 x\r\n", func(c net.Conn) (what string) {
		ln := proxyprotocol.NewConn(c, noDeadline)
		h, err := ln.ProxyHeader()
		require.Error(t, err)
		defer func() {
			if recover() != nil {
				what = fmt.Sprintf("`h != nil` is %v, and `h.SrcAddr()` panics", h != nil)
			}
		}()
		return fmt.Sprintf("`h.SrcAddr()` is %v", h.SrcAddr())
	})
}

func headerOurs(t *testing.T) string {
	return oneConn(t, "PROXY TCP4 x\r\n", func(c net.Conn) string {
		conn, err := proxyproto.NewConn(c, &proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require)})
		require.NoError(t, err)
		conn.Read(make([]byte, 1))
		return fmt.Sprintf("`c.Header() == nil` is %v", conn.Header() == nil)
	})
}
