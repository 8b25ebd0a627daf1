package proxyproto

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// PacketConn is a connection on which every datagram begins with a PROXY header, as section 2
// of the spec asks of UDP. To its user the datagrams are the clients': ReadFrom returns the
// payload behind the header and the client's address, and WriteTo with that address replies
// through the proxy that the datagram came from. A [PacketAddr] says all that this takes, so the
// PacketConn remembers nothing.
//
// All methods may be called by several goroutines at once. SyscallConn, ReadMsgUDP and whatever
// else would go past the header aren't offered: servers that look for them, as quic-go does,
// then use ReadFrom and WriteTo.
type PacketConn struct {
	inner  net.PacketConn
	udp    *net.UDPConn // inner if it is one
	local  netip.AddrPort
	cfg    Config
	policy livePolicy
	stats  counters
	recent atomic.Pointer[recentClients]
}

// NewPacketConn returns a PacketConn around inner. The Policy is asked about the sender of each
// datagram, with inner's LocalAddr, and says what is done with this one alone:
//
//   - Reject drops it; Require wants a valid header at its front; Skip returns it as it is.
//   - Optional takes the header if there is one and returns the datagram as it is if it doesn't
//     begin as a header does; Ignore skips the header. What begins as one and isn't valid, or
//     isn't whole by the end of the datagram, is dropped.
//
// Dropped datagrams are counted and told to OnDrop, and reading goes on. An empty one, where a
// header is required, only counts as a probe. Headers are accepted in both versions, unless
// Config.Versions says otherwise, and of any Protocol: the client of a TCP4 header has the address
// that it says, and is replied to by UDP. LOCAL, UNKNOWN and UNSPEC leave the datagram its
// sender's own address.
//
// UDP tells nobody who really sent a datagram. A Policy that trusts an address trusts everyone
// whose datagrams get here with this source address: the network in front has to drop those that
// don't come from the proxy. And OnDrop is called as often as strangers send: it should count
// rather than log.
//
// HeaderTimeout, MaxPending and Lazy mean nothing to a PacketConn. It returns an error if cfg
// has no Policy or makes no sense, and then leaves inner as it is.
func NewPacketConn(inner net.PacketConn, cfg *Config) (*PacketConn, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	pc := &PacketConn{inner: inner, local: addrPort(inner.LocalAddr()), cfg: cfg.own()}
	pc.udp, _ = inner.(*net.UDPConn)
	pc.SetPolicy(cfg.Policy)
	return pc, nil
}

// SetPolicy replaces the Policy for the datagrams that are read from now on. It may be called
// while serving. A nil Policy rejects everybody.
func (pc *PacketConn) SetPolicy(p Policy) { pc.policy.set(p) }

// Stats returns the counts up to now, of datagrams: each is in Accepted and in one of the others.
func (pc *PacketConn) Stats() Stats {
	s := pc.stats.stats() // without Accepted, which would be one more count for each
	s.Accepted = s.V1 + s.V2 + s.Local + s.Bare + s.Ignored + s.Skipped + s.Probes + s.TotalDropped()
	return s
}

// maxDatagram is more than UDP can carry: 65,507 bytes over IPv4 and 65,527 over IPv6.
const maxDatagram = 1<<16 - 1

// A packetReader is what reading a datagram takes. Readers are pooled.
type packetReader struct {
	addrs []PacketAddr      // to be given out: memory for several at once is cheaper than for each
	data  [maxDatagram]byte // in case the caller's buffer might not hold header and payload
}

var packetReaders = sync.Pool{New: func() any { return new(packetReader) }}

func (r *packetReader) newAddr() *PacketAddr {
	const atOnce = 8
	if len(r.addrs) == 0 {
		r.addrs = make([]PacketAddr, atOnce)
	}
	a := &r.addrs[0]
	r.addrs = r.addrs[1:]
	return a
}

// ReadFrom reads the next datagram that the Policy and its header let in. It returns the length
// of the payload, which it puts into b, and a [*PacketAddr]. n is 0 if there is nothing behind the
// header.
//
// b needs no room for the header. A payload longer than b is cut, as a *net.UDPConn does.
// What peers send is never an error: those are inner's, by its deadline or by Close for example.
//
// It allocates 512 bytes for the addresses of every eight datagrams, and uses a buffer of 64 KiB
// while it waits, from a pool, if b is shorter than that.
func (pc *PacketConn) ReadFrom(b []byte) (n int, addr net.Addr, err error) {
	n, a, err := pc.ReadHeaderFrom(b, nil)
	if err != nil {
		return 0, nil, err
	}
	return n, a, nil
}

// ReadHeaderFrom is ReadFrom for those who want the header too: h, unless it is nil, becomes the
// datagram's, or has Version 0 if there is none or the Policy says Ignore.
//
// h is the caller's own. Its TLVs are copied, into the memory that h.TLVs has already if it
// suffices: a loop that reads into the same Header has to [Header.Clone] what it wants to keep.
func (pc *PacketConn) ReadHeaderFrom(b []byte, h *Header) (n int, addr *PacketAddr, err error) {
	r := packetReaders.Get().(*packetReader)
	defer packetReaders.Put(r)
	buf := b
	if len(b) < maxDatagram {
		buf = r.data[:]
	}
	for {
		n, peer, inner, err := pc.receive(buf)
		if err != nil {
			return 0, nil, err
		}
		var header Header
		payload, ok := pc.open(buf[:n], unmap(peer), &header)
		if !ok {
			continue
		}
		addr = r.newAddr()
		addr.own(peer, inner)
		addr.behind(&header)
		if h != nil {
			header.copyTo(h)
		}
		if recent := pc.recent.Load(); recent != nil {
			recent.note(addr)
		}
		return copy(b, payload), addr, nil
	}
}

// receive reads a datagram. peer is its sender, as the socket has it, if that is an IP address;
// inner is the sender if the inner connection isn't a *net.UDPConn.
func (pc *PacketConn) receive(buf []byte) (n int, peer netip.AddrPort, inner net.Addr, err error) {
	if pc.udp != nil {
		n, peer, err = pc.udp.ReadFromUDPAddrPort(buf)
		return n, peer, nil, err
	}
	n, inner, err = pc.inner.ReadFrom(buf)
	if ip, ok := inner.(interface{ AddrPort() netip.AddrPort }); ok {
		peer = ip.AddrPort()
	}
	return n, peer, inner, err
}

// open judges a datagram. It returns the payload, and fills the header if there is one that is
// believed; or it drops the datagram.
func (pc *PacketConn) open(datagram []byte, peer netip.AddrPort, header *Header) (payload []byte, ok bool) {
	switch action := pc.policy.ask(peer, pc.local); action {
	case Skip:
		pc.stats.skipped.Add(1)
		return datagram, true
	case Require, Optional, Ignore:
		if len(datagram) == 0 && action == Require {
			pc.stats.probe()
			return nil, false
		}
		var n int
		var reason Reason
		var err error
		n, reason, err = pc.cfg.judge(header, action, datagram, true)
		if reason == 0 && action != Ignore && header.Version != 0 && pc.cfg.Validate != nil {
			shown := *header // apart, because it escapes
			if err = pc.cfg.Validate(peer, &shown); err != nil {
				reason = ReasonInvalid
			}
		}
		if reason != 0 {
			pc.drop(peer, reason, err, datagram)
			return nil, false
		}
		pc.stats.serve(action, header)
		if action == Ignore {
			*header = Header{}
		}
		return datagram[n:], true
	}
	pc.drop(peer, ReasonRejected, errRejected, nil)
	return nil, false
}

// drop is Config.drop without its garbage if nobody is told: strangers may send a lot.
func (pc *PacketConn) drop(peer netip.AddrPort, reason Reason, err error, datagram []byte) {
	if pc.cfg.OnDrop == nil {
		pc.stats.drop(reason)
		return
	}
	pc.cfg.drop(&pc.stats, peer, reason, err, datagram)
}

// copyTo makes *to a copy of h that shares no memory with it, and uses the memory of to's TLVs.
func (h *Header) copyTo(to *Header) {
	tlvs := append(to.TLVs[:0], h.TLVs...)
	*to = *h
	if to.TLVs = tlvs; h.Unix != nil {
		unix := *h.Unix
		to.Unix = &unix
	}
}

// ErrNoProxy is what WriteTo says of an address that isn't ReadFrom's: nothing tells through
// which proxy it is reached. It comes inside a *net.OpError.
var ErrNoProxy = errors.New("proxyproto: no proxy is known for this address: WriteTo needs one that ReadFrom returned")

// WriteTo sends b to the client that addr, a [*PacketAddr], is the address of, through the proxy
// that its datagram came from. No header is put before b: proxies expect none from servers.
//
// Any other address is an error matched by [ErrNoProxy]. A reply that was sent there directly
// would come from an address that the client hasn't asked, and whoever knows that a peer needs no
// proxy can write to the inner connection. See [PacketConn.Remember] for programs that make
// addresses anew.
func (pc *PacketConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	a, _ := addr.(*PacketAddr)
	if recent := pc.recent.Load(); recent != nil {
		a = recent.way(addr)
	}
	switch {
	case a == nil:
	case pc.udp != nil && a.hasPeer:
		return pc.udp.WriteToUDPAddrPort(b, a.socketPeer())
	case pc.udp == nil && a.rare != nil && a.rare.inner != nil:
		return pc.inner.WriteTo(b, a.rare.inner)
	}
	return 0, pc.opError("write", addr, ErrNoProxy)
}

// Remember makes WriteTo know up to that many clients, those heard of last, each for as long as
// age after its last datagram. It is for programs that
//
//   - don't keep the address that ReadFrom returned but make it anew from its text: WriteTo takes
//     plain addresses of the clients that it knows;
//   - talk with a client for longer than proxies keep their sockets, as QUIC does: replies go
//     through the one by which the client was heard of last to the same destination, though
//     the address that WriteTo gets may be older. (A server that knows clients by their address's text
//     would go on replying to a socket that is gone.)
//
// It costs a lock for each datagram and some 250 bytes for each client. Zero clients, or a zero
// age, end it and forget all; that is how a PacketConn begins.
//
// Whoever can send through one of the proxies with the source address of a client can turn that
// client's replies over to this proxy. Without Remember nobody can.
func (pc *PacketConn) Remember(clients int, age time.Duration) {
	if clients <= 0 || age <= 0 {
		pc.recent.Store(nil)
		return
	}
	pc.recent.Store(newRecentClients(clients, age))
}

// NetPacketConn returns the inner connection. Its datagrams have their headers, and what it
// writes goes where the address says.
func (pc *PacketConn) NetPacketConn() net.PacketConn { return pc.inner }

// LocalAddr returns the inner connection's address. What a client has sent its datagram to is
// [PacketAddr.Destination].
func (pc *PacketConn) LocalAddr() net.Addr { return pc.inner.LocalAddr() }

// Close closes the inner connection. A ReadFrom or WriteTo that waits returns with an error.
func (pc *PacketConn) Close() error { return pc.inner.Close() }

// SetDeadline sets the read and write deadlines.
func (pc *PacketConn) SetDeadline(t time.Time) error { return pc.inner.SetDeadline(t) }

// SetReadDeadline sets the deadline of reads. Datagrams that are dropped don't extend it.
func (pc *PacketConn) SetReadDeadline(t time.Time) error { return pc.inner.SetReadDeadline(t) }

// SetWriteDeadline sets the deadline of writes.
func (pc *PacketConn) SetWriteDeadline(t time.Time) error { return pc.inner.SetWriteDeadline(t) }

// SetReadBuffer sets the size of the kernel's receive buffer. If the inner connection can't the
// error is matched by errors.ErrUnsupported.
func (pc *PacketConn) SetReadBuffer(bytes int) error {
	if inner, ok := pc.inner.(interface{ SetReadBuffer(bytes int) error }); ok {
		return inner.SetReadBuffer(bytes)
	}
	return pc.opError("set", nil, errors.ErrUnsupported)
}

// SetWriteBuffer sets the size of the kernel's send buffer, in the same way.
func (pc *PacketConn) SetWriteBuffer(bytes int) error {
	if inner, ok := pc.inner.(interface{ SetWriteBuffer(bytes int) error }); ok {
		return inner.SetWriteBuffer(bytes)
	}
	return pc.opError("set", nil, errors.ErrUnsupported)
}

// opError puts err in the form in which package net's connections return it.
func (pc *PacketConn) opError(op string, addr net.Addr, err error) error {
	local := pc.inner.LocalAddr()
	return &net.OpError{Op: op, Net: local.Network(), Source: local, Addr: addr, Err: err}
}
