package migrate

import (
	"io"
	"net"
	"time"

	armon "github.com/armon/go-proxyproto"

	"github.com/seed2e8fe8ee/proxyproto"
)

// Section: Names

// Theirs takes a header from anybody, and does without. Ours needs to be told whom to trust.
func _(inner net.Listener) { _ = &armon.Listener{Listener: inner} }
func _(inner net.Listener) {
	policy, _ := proxyproto.ParseTrust("10.0.0.0/24")
	_, _ = proxyproto.NewListener(inner, &proxyproto.Config{Policy: policy})
}

// Ours returns a connection when its header is there, and never an error for what a peer is or does.
func _(ln *armon.Listener)      { _, _ = ln.Accept() }
func _(ln *proxyproto.Listener) { _, _ = ln.Accept() }

// Ours closes connections that wait for their headers too.
func _(ln *armon.Listener)      { _, _ = ln.Close(), ln.Addr() }
func _(ln *proxyproto.Listener) { _, _ = ln.Close(), ln.Addr() }

// Theirs serves the connection when the time is over; ours closes it under Require. Zero is none in theirs, 5 s in ours: none is -1.
func _() { _ = armon.Listener{ProxyHeaderTimeout: 3 * time.Second} }
func _() { _ = proxyproto.Config{HeaderTimeout: 3 * time.Second} }

// `true, nil` is Optional, or better Require; `false, nil` is Ignore.
func _() { _ = armon.Listener{SourceCheck: func(upstream net.Addr) (bool, error) { return true, nil }} }
func _() {
	_ = proxyproto.Config{Policy: func(p proxyproto.Peer) proxyproto.Action { return proxyproto.Require }}
}

// The type.
func _() {
	var _ armon.SourceChecker
}
func _() {
	var _ proxyproto.Policy
}

// To close a connection. Any other error ends theirs.
func _() (bool, error)     { return false, armon.ErrInvalidUpstream }
func _() proxyproto.Action { return proxyproto.Reject }

// UNKNOWN is always taken, with any text after it.
func _() { _ = armon.Listener{UnknownOK: true} }
func _() {}

// Version 1 is all that theirs knows; ours takes both unless it is told not to.
func _(inner net.Conn) {
	var _ *armon.Conn
	_ = armon.NewConn(inner, 3*time.Second)
}
func _(inner net.Conn, policy proxyproto.Policy) {
	_, _ = proxyproto.NewConn(inner, &proxyproto.Config{Policy: policy, HeaderTimeout: 3 * time.Second, Versions: []proxyproto.Version{proxyproto.V1}})
}

// Ours never block, and log nothing.
func _(c *armon.Conn)      { _, _ = c.RemoteAddr(), c.LocalAddr() }
func _(c *proxyproto.Conn) { _, _ = c.RemoteAddr(), c.LocalAddr() }

// Theirs has no half-close, and no way to the inner connection.
func _(c *armon.Conn, b []byte) {
	_, _ = c.Read(b)
	_, _ = c.Write(b)
	_ = c.Close()
}
func _(c *proxyproto.Conn, b []byte) {
	_, _ = c.Read(b)
	_, _ = c.Write(b)
	_, _, _ = c.Close(), c.CloseWrite(), c.NetConn()
}

// Theirs clears the caller's read deadline when the header is there.
func _(c *armon.Conn, t time.Time) {
	_, _, _ = c.SetDeadline(t), c.SetReadDeadline(t), c.SetWriteDeadline(t)
}
func _(c *proxyproto.Conn, t time.Time) {
	_, _, _ = c.SetDeadline(t), c.SetReadDeadline(t), c.SetWriteDeadline(t)
}

// Theirs reads through a buffer for ever, and so never splices.
func _(c *armon.Conn, r io.Reader, w io.Writer) {
	_, _ = c.ReadFrom(r)
	_, _ = c.WriteTo(w)
}
func _(c *proxyproto.Conn, r io.Reader, w io.Writer) {
	_, _ = c.ReadFrom(r)
	_, _ = c.WriteTo(w)
}
