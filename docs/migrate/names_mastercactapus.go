package migrate

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/mastercactapus/proxyprotocol"

	"github.com/seed2e8fe8ee/proxyproto"
)

// Section: Names

// Theirs requires a header from everybody and believes it. Left out, the time is 5 s in ours.
func _(inner net.Listener) {
	var _ *proxyprotocol.Listener
	_ = proxyprotocol.NewListener(inner, 3*time.Second)
}
func _(inner net.Listener) {
	policy, _ := proxyproto.ParseTrust("10.0.0.0/24")
	_, _ = proxyproto.NewListener(inner, &proxyproto.Config{Policy: policy, HeaderTimeout: 3 * time.Second})
}

// Theirs returns at once; ours when the header is there.
func _(ln *proxyprotocol.Listener) { _, _ = ln.Accept() }
func _(ln *proxyproto.Listener)    { _, _ = ln.Accept() }

// The inner listener.
func _(ln *proxyprotocol.Listener)                  { _ = ln.Listener }
func _(ln *proxyproto.Listener, inner net.Listener) { _ = inner }

// Peers that match no rule are served as they are in theirs, with a header as payload: that is Skip. Reject is better.
func _(ln *proxyprotocol.Listener, subnet *net.IPNet) {
	ln.SetFilter([]proxyprotocol.Rule{{Subnet: subnet, Timeout: 3 * time.Second}})
}
func _(ln *proxyproto.Listener, subnet netip.Prefix) {
	ln.SetPolicy(proxyproto.Rules(proxyproto.Reject, proxyproto.Rule{Prefix: subnet, Action: proxyproto.Require}))
}

// A Policy is a function: keep it if you want to see it again.
func _(ln *proxyprotocol.Listener) { _ = ln.Filter() }
func _()                           {}

// Set when the Listener is made, one for all.
func _(ln *proxyprotocol.Listener) { ln.SetDefaultTimeout(3 * time.Second) }
func _()                           { _ = proxyproto.Config{HeaderTimeout: 3 * time.Second} }

// A time limit in place of a point in time.
func _(inner net.Conn) {
	var _ *proxyprotocol.Conn
	_ = proxyprotocol.NewConn(inner, time.Now().Add(3*time.Second))
}
func _(inner net.Conn, policy proxyproto.Policy) {
	_, _ = proxyproto.NewConn(inner, &proxyproto.Config{Policy: policy, HeaderTimeout: 3 * time.Second})
}

// The inner connection.
func _(c *proxyprotocol.Conn) { _ = c.Conn }
func _(c *proxyproto.Conn)    { _ = c.NetConn() }

// Ours never blocks, and is nil if there is no header. Theirs isn't nil after an error, and its methods panic.
func _(c *proxyprotocol.Conn) { _, _ = c.ProxyHeader() }
func _(c *proxyproto.Conn)    { _ = c.Header() }

// Ours never block.
func _(c *proxyprotocol.Conn) { _, _ = c.RemoteAddr(), c.LocalAddr() }
func _(c *proxyproto.Conn)    { _, _ = c.RemoteAddr(), c.LocalAddr() }

// Theirs reads through a buffer for ever.
func _(c *proxyprotocol.Conn, b []byte) { _, _ = c.Read(b) }
func _(c *proxyproto.Conn, b []byte)    { _, _ = c.Read(b) }

// The header's limit and the caller's deadline: the later counts in theirs, the earlier in ours.
func _(c *proxyprotocol.Conn, t time.Time) { _, _ = c.SetDeadline(t), c.SetReadDeadline(t) }
func _(c *proxyproto.Conn, t time.Time)    { _, _ = c.SetDeadline(t), c.SetReadDeadline(t) }

// The same: what follows the header stays in r. Parse reads from a []byte.
func _(r *bufio.Reader) { _, _ = proxyprotocol.Parse(r) }
func _(r *bufio.Reader) { _, _ = proxyproto.ReadHeader(r) }

// Ours has the version, the offset and the rule.
func _(e *proxyprotocol.InvalidHeaderErr) {
	var _ *proxyprotocol.InvalidHeaderErr
	_, _ = e.Read, e.Error()
}
func _(e *proxyproto.FormatError) {
	var _ *proxyproto.FormatError
	_, _, _ = e.Version, e.Offset, e.Rule
}

// One struct for both versions.
func _(h proxyprotocol.Header) {
	var _ proxyprotocol.Header
	_, _, _ = h.Version(), h.SrcAddr(), h.DestAddr()
}
func _(h *proxyproto.Header) {
	var _ *proxyproto.Header
	_, _, _ = h.Version, h.SourceAddr(), h.DestinationAddr()
}

// The same fields as netip.AddrPort.
func _(h proxyprotocol.HeaderV1) {
	var _ proxyprotocol.HeaderV1
	_, _, _, _ = h.SrcIP, h.SrcPort, h.DestIP, h.DestPort
}
func _(h *proxyproto.Header) { _, _ = h.Source, h.Destination }

// The same.
func _(h proxyprotocol.HeaderV2) {
	var _ proxyprotocol.HeaderV2
	_, _, _ = h.Command, h.Src, h.Dest
}
func _(h *proxyproto.Header) { _, _, _ = h.Command, h.Source, h.Destination }

// Version 1.
func _(h *proxyprotocol.HeaderV1, inbound net.Conn) { h.FromConn(inbound, false) }
func _(inbound net.Conn)                            { _, _ = proxyproto.HeaderFor(inbound, proxyproto.V1) }

// Version 2. Ours keeps the TLVs of the inbound header.
func _(h *proxyprotocol.HeaderV2, inbound net.Conn) { h.FromConn(inbound, false) }
func _(inbound net.Conn)                            { _, _ = proxyproto.HeaderFor(inbound, proxyproto.V2) }

// For a connection that one has dialed oneself.
func _(h *proxyprotocol.HeaderV2, c net.Conn) { h.FromConn(c, true) }
func _(c net.Conn)                            { _ = proxyproto.NewHeader(c.LocalAddr(), c.RemoteAddr(), proxyproto.V2) }

// Ours is an error where theirs writes UNKNOWN or UNSPEC.
func _(h proxyprotocol.HeaderV1, w io.Writer) { _, _ = h.WriteTo(w) }
func _(h *proxyproto.Header, w io.Writer)     { _, _ = h.WriteTo(w) }

// The same numbers.
func _() {
	var _ proxyprotocol.Cmd
	_, _ = proxyprotocol.CmdLocal, proxyprotocol.CmdProxy
}
func _() {
	var _ proxyproto.Command
	_, _ = proxyproto.Local, proxyproto.Proxy
}
