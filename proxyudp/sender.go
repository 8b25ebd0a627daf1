package proxyudp

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

// Sender is a socket for one client of a relay: it puts the client's header in front of each
// datagram that is sent through it. Replies have none, and are read as they are.
//
// Each client takes a socket of its own, since a reply says nothing about the client but the
// port that it is sent to. It is a net.PacketConn, and a net.Conn too if its socket is connected:
// that is best for a relay, because the kernel then drops what others than the server send. All
// methods may be called by several goroutines at once.
type Sender struct {
	inner  net.PacketConn
	header []byte
	limit  int
}

// NewSender returns a Sender over inner, which should be a *net.UDPConn. The header is encoded
// once, as [AppendPacket] does, and limit is how long a datagram may be with it; zero is no limit.
func NewSender(inner net.PacketConn, h *proxyproto.Header, limit int) (*Sender, error) {
	if isNil(inner) {
		return nil, errors.New("proxyudp: the inner connection is nil")
	}
	header, err := AppendPacket(nil, h, nil, limit)
	if err != nil {
		return nil, err
	}
	return &Sender{inner, header, limit}, nil
}

var datagrams = sync.Pool{New: func() any { return new([maxDatagram]byte) }}

// WriteTo sends the header and b to addr in one datagram. n is how much of b was sent. The error is
// matched by [ErrTooLong] if the two are longer than the limit.
func (s *Sender) WriteTo(b []byte, addr net.Addr) (n int, err error) {
	return s.send(b, func(datagram []byte) (int, error) { return s.inner.WriteTo(datagram, addr) })
}

// Write sends the header and b to the address that the socket is connected to, in the same way.
// If the inner connection has no Write the error is errors.ErrUnsupported.
func (s *Sender) Write(b []byte) (n int, err error) {
	conn, ok := s.inner.(net.Conn)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	return s.send(b, conn.Write)
}

func (s *Sender) send(b []byte, write func(datagram []byte) (int, error)) (n int, err error) {
	if err := checkLength(len(s.header), len(b), s.limit); err != nil {
		return 0, err
	}
	buf := datagrams.Get().(*[maxDatagram]byte)
	defer datagrams.Put(buf)
	n, err = write(append(append(buf[:0], s.header...), b...))
	return max(0, n-len(s.header)), err
}

// ReadFrom reads a reply.
func (s *Sender) ReadFrom(b []byte) (int, net.Addr, error) { return s.inner.ReadFrom(b) }

// Read reads a reply from the address that the socket is connected to. If the inner connection
// has no Read the error is errors.ErrUnsupported.
func (s *Sender) Read(b []byte) (int, error) {
	if conn, ok := s.inner.(net.Conn); ok {
		return conn.Read(b)
	}
	return 0, errors.ErrUnsupported
}

// NetPacketConn returns the inner connection. What it writes has no header.
func (s *Sender) NetPacketConn() net.PacketConn { return s.inner }

// LocalAddr returns the inner connection's address.
func (s *Sender) LocalAddr() net.Addr { return s.inner.LocalAddr() }

// RemoteAddr returns the address that the socket is connected to, or nil.
func (s *Sender) RemoteAddr() net.Addr {
	if conn, ok := s.inner.(net.Conn); ok {
		return conn.RemoteAddr()
	}
	return nil
}

// Close closes the inner connection.
func (s *Sender) Close() error { return s.inner.Close() }

// SetDeadline sets the read and write deadlines.
func (s *Sender) SetDeadline(t time.Time) error { return s.inner.SetDeadline(t) }

// SetReadDeadline sets the deadline of reads.
func (s *Sender) SetReadDeadline(t time.Time) error { return s.inner.SetReadDeadline(t) }

// SetWriteDeadline sets the deadline of writes.
func (s *Sender) SetWriteDeadline(t time.Time) error { return s.inner.SetWriteDeadline(t) }
