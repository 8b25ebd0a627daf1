package proxyproto

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is a connection that begins with a PROXY header. To its user it is the client's
// connection: the header is taken off its front and says what RemoteAddr and LocalAddr are.
//
// A Conn that a Listener's Accept returned has its header read already, unless Config.Lazy is
// set. A lazy one (and any that NewConn made under Require or Optional) reads it in the first
// Read, WriteTo or ReadHeader. Read and WriteTo wait for the first byte as long as the read
// deadline allows; from that byte on the header has Config.HeaderTimeout to be whole. Until it is
// there RemoteAddr and LocalAddr are the socket's, Header is nil, and Write doesn't wait. If the
// header is refused the connection is closed, and reading returns a *net.OpError with a
// [*DropError] inside, or io.EOF if the peer sent nothing at all.
//
// A Conn that was served without a header because its peer was silent (Optional) or because the
// Policy says Ignore has the socket's addresses for good. Bytes that may begin a header are held
// back from Read, for Config.HeaderTimeout at most, until they are decided: a header is taken off
// under Ignore, and closes the connection with [ReasonLate] under Optional.
//
// All methods may be called by several goroutines at once. Abilities of the inner connection
// that Conn doesn't pass on are available from [Conn.NetConn]; it isn't embedded, because its
// Read would go past the header.
type Conn struct {
	inner net.Conn

	// gate is set until the first bytes are decided, and stays if the connection is dropped.
	gate atomic.Pointer[gate]

	// Written before gate becomes nil, and never after.
	header              Header // Version is 0 if there is none
	source, destination endpoint

	// prefix has the bytes that came with the header and aren't read yet; nil if there are
	// none. Its content is guarded by mu.
	prefix atomic.Pointer[buffer]
	mu     sync.Mutex
	closed bool // by its user: no prefix is to be kept
}

// endpoint is an address that needs no memory of its own to be given out as a net.Addr.
type endpoint struct {
	addr net.TCPAddr
	ip   [16]byte
}

func (e *endpoint) set(ap netip.AddrPort) {
	addr := ap.Addr().Unmap()
	e.ip = addr.As16()
	e.addr = net.TCPAddr{IP: e.ip[:], Port: int(ap.Port())}
	if addr.Is4() {
		e.addr.IP = e.ip[12:]
	}
}

// NewConn wraps a connection from an accept loop of your own. The Conn is lazy: call
// [Conn.ReadHeader], or just Read, in the connection's own goroutine. MaxPending and Lazy mean
// nothing to it, and nothing is counted.
//
// The Policy is asked at once. If it rejects the peer inner is closed and the error is a
// [*DropError]; if it skips the peer the Conn is inner as it is. Other errors are of cfg or a nil
// inner, and leave inner as it was.
func NewConn(inner net.Conn, cfg *Config) (*Conn, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if inner == nil {
		return nil, errors.New("proxyproto: NewConn needs a connection")
	}
	r := headerReader{cfg: cfg, peer: peerOf(inner)}
	switch r.action = cfg.Policy(r.peer); r.action {
	case Skip:
		return &Conn{inner: inner}, nil
	case Require, Optional, Ignore:
		return newGatedConn(r), nil
	}
	r.drop(ReasonRejected, errRejected)
	closeChain(inner)
	drop := r.fault()
	r.report(drop)
	return nil, drop
}

// open makes c.header, and the bytes after the header in r's buffer, the connection's.
func (c *Conn) open(r *headerReader) {
	if r.action == Ignore {
		c.header = Header{}
	}
	if c.header.Source.IsValid() {
		c.source.set(c.header.Source)
		c.destination.set(c.header.Destination)
	}
	b := r.buf
	r.buf = nil
	if b.start = r.size; !c.keep(b) {
		b.release()
	}
}

// keep makes b, if there is something in it, what is read next.
func (c *Conn) keep(b *buffer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || b.start == b.end {
		return false
	}
	c.prefix.Store(b)
	return true
}

// ReadHeader reads the header if that hasn't been done, and returns nil when the connection's
// addresses are what they stay: its header is valid, or it does without one. It blocks until then,
// for Config.HeaderTimeout at most, and not longer than ctx and the read deadline allow. Under
// Optional a peer that is silent so long is served without a header, and for one that has begun to
// send HeaderTimeout runs from its first byte. It doesn't wait under Ignore, nor for a connection
// that was served without a header.
//
// After an error of ctx or of the read deadline it can be called again, and nothing is lost,
// unless the inner connection is one of crypto/tls whose handshake was interrupted. (One that
// doesn't heed ctx, being stuck in a Write, is closed a second later.) After any other error the
// connection is closed: the error, that of [Conn.Read], has a [*DropError] inside, or is io.EOF
// if the peer sent nothing at all. With errors.Is the end of ctx is [context.DeadlineExceeded] or
// [context.Canceled], and HeaderTimeout is neither: it is [os.ErrDeadlineExceeded].
func (c *Conn) ReadHeader(ctx context.Context) error {
	g := c.gate.Load()
	if g == nil || g.settled.Load() {
		return nil
	}
	return g.pass(ctx, c, true)
}

// awaited reports whether a header may still change the connection's addresses, or was refused.
func (c *Conn) awaited() bool {
	g := c.gate.Load()
	return g != nil && !g.settled.Load()
}

// Header returns the connection's header: nil if it has none, or if it isn't there yet. It
// never blocks. The Header is the Conn's own: don't change it.
func (c *Conn) Header() *Header {
	if c.gate.Load() != nil || c.header.Version == 0 {
		return nil
	}
	return &c.header
}

// NetConn returns the inner connection. Its first bytes are the header unless that has been
// read, and then those after what came with it: read from it only if you never read from c.
func (c *Conn) NetConn() net.Conn { return c.inner }

// RemoteAddr returns the header's source, the client's address, as a *net.TCPAddr,
// *net.UDPAddr or *net.UnixAddr. It is the socket's if there is no header or if the header has
// none: LOCAL, UNKNOWN and UNSPEC. It never blocks. The address is a part of c: copy it to keep it
// for longer than the connection.
func (c *Conn) RemoteAddr() net.Addr {
	if !c.hasAddrs() {
		return c.inner.RemoteAddr()
	}
	if p := c.header.Protocol; p == TCP4 || p == TCP6 {
		return &c.source.addr
	}
	return c.header.SourceAddr()
}

// LocalAddr returns the header's destination, the address that the client connected to, or
// the socket's as RemoteAddr does.
func (c *Conn) LocalAddr() net.Addr {
	if !c.hasAddrs() {
		return c.inner.LocalAddr()
	}
	if p := c.header.Protocol; p == TCP4 || p == TCP6 {
		return &c.destination.addr
	}
	return c.header.DestinationAddr()
}

func (c *Conn) hasAddrs() bool {
	return c.gate.Load() == nil && c.header.HasAddrs()
}

// Read reads what the client sent. On a lazy connection the first one reads the header.
func (c *Conn) Read(p []byte) (int, error) {
	if g := c.gate.Load(); g != nil {
		if len(p) == 0 {
			return 0, nil
		}
		if err := g.pass(context.Background(), c, false); err != nil {
			return 0, err
		}
	}
	if c.prefix.Load() != nil {
		if n, ok := c.readPrefix(p); ok {
			return n, nil
		}
	}
	return c.inner.Read(p)
}

// readPrefix reads from the bytes that came with the header, if any are left.
func (c *Conn) readPrefix(p []byte) (n int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.prefix.Load()
	if b == nil {
		return 0, false
	}
	n = copy(p, b.bytes())
	b.start += n
	if b.start == b.end {
		c.prefix.Store(nil)
		b.release()
	}
	return n, true
}

// WriteTo copies to w until the client has sent all, as io.Copy does; io.Copy calls it. The
// bytes go from socket to socket in the kernel (splice) where those of the inner connection would.
func (c *Conn) WriteTo(w io.Writer) (int64, error) {
	n, ended, err := c.drainTo(w, math.MaxInt64)
	if ended || err != nil {
		return n, err
	}
	rest, err := io.Copy(w, c.inner)
	return n + rest, err
}

// drainTo waits for the header and writes up to limit of the bytes that came with it. What w
// doesn't take stays. It reports whether the client has sent all.
func (c *Conn) drainTo(w io.Writer, limit int64) (n int64, ended bool, err error) {
	if limit <= 0 {
		return 0, false, nil
	}
	if g := c.gate.Load(); g != nil {
		switch err := g.pass(context.Background(), c, false); {
		case err == io.EOF:
			return 0, true, nil
		case err != nil:
			return 0, false, err
		}
	}
	c.mu.Lock()
	b := c.prefix.Swap(nil)
	c.mu.Unlock()
	if b == nil {
		return 0, false, nil
	}
	p := b.bytes()
	p = p[:min(int64(len(p)), limit)]
	written, err := w.Write(p)
	if err == nil && written < len(p) {
		err = io.ErrShortWrite
	}
	b.start += written
	c.keep(b)
	// A buffer that w has seen isn't used again: w may have kept it, against its contract.
	return int64(written), false, err
}

// Write writes to the client. It never waits for the header.
func (c *Conn) Write(p []byte) (int, error) { return c.inner.Write(p) }

// ReadFrom copies from r to the client, as io.Copy does; io.Copy calls it. The inner connection
// sees the source itself, so that a file is sent by sendfile and another connection, a Conn too, by
// splice.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	limited, ok := r.(*io.LimitedReader)
	if !ok {
		return io.Copy(c.inner, r)
	}
	source, ok := limited.R.(*Conn)
	if !ok {
		return io.Copy(c.inner, r)
	}
	// io.CopyN: splice looks through one LimitedReader, but not at a Conn inside it.
	n, ended, err := source.drainTo(c.inner, limited.N)
	limited.N -= n
	if ended || err != nil || limited.N <= 0 {
		return n, err
	}
	inner := io.LimitedReader{R: source.inner, N: limited.N}
	rest, err := io.Copy(c.inner, &inner)
	limited.N = inner.N
	return n + rest, err
}

// CloseWrite shuts down the writing side, so that the client sees the end of the data and
// can still send. If the inner connection can't the error is matched by errors.ErrUnsupported.
func (c *Conn) CloseWrite() error {
	if inner, ok := c.inner.(interface{ CloseWrite() error }); ok {
		return inner.CloseWrite()
	}
	return c.opError("close", errors.ErrUnsupported)
}

// Close closes the inner connection. A Read or Write that waits returns with an error. It takes
// as long as the inner connection's Close.
func (c *Conn) Close() error {
	if g := c.gate.Load(); g != nil {
		g.close(c.inner)
	}
	c.mu.Lock()
	c.closed = true
	if b := c.prefix.Swap(nil); b != nil {
		b.release()
	}
	c.mu.Unlock()
	return c.inner.Close()
}

// SetDeadline sets the read and write deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	if c.gate.Load() == nil {
		return c.inner.SetDeadline(t)
	}
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.inner.SetWriteDeadline(t)
}

// SetReadDeadline sets the deadline of reads. It can't move the time limit of the header, which
// closes the connection. When the deadline passes first, reading can go on after a later one is
// set, and nothing that was read is lost.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if g := c.gate.Load(); g != nil {
		return g.setReadDeadline(c, t)
	}
	return c.inner.SetReadDeadline(t)
}

// SetWriteDeadline sets the deadline of writes.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.inner.SetWriteDeadline(t) }

// opError puts err in the form in which package net's connections return it. net/http tells
// by it that the connection is at fault and not the request.
func (c *Conn) opError(op string, err error) error { return opError(c.inner, op, err) }

func opError(conn net.Conn, op string, err error) error {
	local, remote := conn.LocalAddr(), conn.RemoteAddr()
	network := "tcp"
	if remote != nil {
		network = remote.Network()
	}
	return &net.OpError{Op: op, Net: network, Source: local, Addr: remote, Err: err}
}

// FromConn finds the Conn that c is, or that it wraps: through *tls.Conn and any other
// connection with a NetConn method. It reports whether there is one.
func FromConn(c net.Conn) (*Conn, bool) {
	for _, c := range netConns(c) {
		if conn, ok := c.(*Conn); ok {
			return conn, true
		}
	}
	return nil, false
}

// addrPort returns the plain form of a socket's address, or the zero AddrPort if it has no IP.
func addrPort(a net.Addr) netip.AddrPort {
	if ip, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		return unmap(ip.AddrPort())
	}
	return netip.AddrPort{}
}
