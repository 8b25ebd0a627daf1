package toa

import (
	"io"
	"net"
)

// Conn is a connection whose RemoteAddr is its client's. All else is that of the *net.TCPConn,
// with its methods: half-close, sendfile, splice and the rest are as able as without.
type Conn struct {
	*net.TCPConn
	option Option
	err    error       // why the option isn't believed; nil if it is
	remote net.TCPAddr // the option's address, if it is believed
	ip     [16]byte    // what remote.IP points to
}

// newConn returns the connection for what the option was; err is why it isn't believed.
func newConn(inner *net.TCPConn, option Option, err error) *Conn {
	c := &Conn{TCPConn: inner, option: option, err: err}
	if err != nil {
		return c
	}
	if addr := option.Addr.Addr(); addr.Is4() {
		b := addr.As4()
		c.remote.IP = c.ip[:copy(c.ip[:], b[:]):len(b)]
	} else {
		c.ip = addr.As16()
		c.remote.IP = c.ip[:]
	}
	c.remote.Port = int(option.Addr.Port())
	return c
}

// RemoteAddr returns the client's address if the option was there and is believed, and otherwise
// the peer's. It never blocks and never changes.
func (c *Conn) RemoteAddr() net.Addr {
	if c.err != nil {
		return c.TCPConn.RemoteAddr()
	}
	return &c.remote
}

// Option returns what the option said. The error is nil if RemoteAddr is its address, and otherwise
// why it isn't: ErrNoOption, ErrNoAgent or another failure to ask it, and, with the Option that there
// was, ErrUncertain and ErrIgnored.
func (c *Conn) Option() (Option, error) { return c.option, c.err }

// NetConn returns the inner connection, a *net.TCPConn. Its RemoteAddr is the peer's: the balancer's.
func (c *Conn) NetConn() net.Conn { return c.TCPConn }

// ReadFrom copies from r to the client, as io.Copy does; io.Copy calls it.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	// io.CopyN: splice looks through one LimitedReader, but not at a Conn inside it.
	if limited, ok := r.(*io.LimitedReader); ok {
		if source, ok := limited.R.(*Conn); ok {
			inner := io.LimitedReader{R: source.TCPConn, N: limited.N}
			n, err := c.TCPConn.ReadFrom(&inner)
			limited.N = inner.N
			return n, err
		}
	}
	return c.TCPConn.ReadFrom(r)
}

// FromConn finds the Conn that c is, or that it wraps: through *tls.Conn and any other connection
// with a NetConn method. It reports whether there is one.
func FromConn(c net.Conn) (*Conn, bool) {
	for c != nil {
		if conn, ok := c.(*Conn); ok {
			return conn, true
		}
		outer, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = outer.NetConn()
	}
	return nil, false
}
