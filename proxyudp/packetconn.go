package proxyudp

import (
	"errors"
	"net"
	"net/netip"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

// PacketConn is a connection on which every datagram begins with a PROXY header, as section 2
// of the spec asks of UDP. To its user the datagrams are the clients': ReadFrom returns the
// payload after the header and the client's address, and WriteTo with that address replies
// through the proxy that the datagram came from, which [RouteOf] names.
//
// On a socket that is bound to no address (":53"), a reply leaves from the address that the
// datagram came to, as clients and proxies expect, wherever the system tells that address.
//
// All methods may be called by several goroutines at once. SyscallConn, ReadMsgUDP and whatever
// else would go past the header aren't offered, so servers that look for them use ReadFrom and
// WriteTo. For quic-go there is [QUICConn].
type PacketConn struct {
	inner     net.PacketConn
	udp       *net.UDPConn // inner if it is one
	wildcard  bool         // udp reports what each datagram was sent to
	localAddr netip.AddrPort
	cfg       Config
	policy    atomic.Pointer[proxyproto.Policy]
	stats     counters
	sessions  *heard[*session] // by peer; nil if there are none
	recent    atomic.Pointer[heard[route]]
}

// NewPacketConn returns a PacketConn around inner, which is nearly always a *net.UDPConn. If it
// is one that is bound to no address, the socket's option to report where datagrams came to is
// switched on (IP_PKTINFO, IPV6_RECVPKTINFO). It returns an error if cfg has no Policy or makes no
// sense, and then leaves inner as it is.
func NewPacketConn(inner net.PacketConn, cfg *Config) (*PacketConn, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if isNil(inner) {
		return nil, errors.New("proxyudp: the inner connection is nil")
	}
	switch inner.(type) {
	case *PacketConn, *QUICConn:
		return nil, errors.New("proxyudp: the inner connection takes the headers off already")
	}
	pc := &PacketConn{inner: inner, cfg: cfg.own()}
	pc.localAddr = plain(addrPort(inner.LocalAddr()))
	if udp, ok := inner.(*net.UDPConn); ok {
		pc.udp = udp
		pc.wildcard = pc.localAddr.Addr().IsUnspecified() && reportLocal(udp)
	}
	if cfg.Sessions > 0 {
		pc.sessions = newHeard[*session](cfg.Sessions, pc.cfg.SessionTimeout)
	}
	pc.SetPolicy(cfg.Policy)
	return pc, nil
}

// SetPolicy replaces the Policy for the datagrams that are read from then on. It may be called
// while serving. A nil Policy rejects everybody.
func (pc *PacketConn) SetPolicy(p proxyproto.Policy) {
	if p == nil {
		p = proxyproto.Always(proxyproto.Reject)
	}
	pc.policy.Store(&p)
}

// Stats returns the counts up to now, of datagrams: each is in Accepted and in one of the others.
// A datagram of a session counts as the session's header.
func (pc *PacketConn) Stats() proxyproto.Stats { return pc.stats.stats() }

// localOf returns the address of ours that a datagram came to.
func (pc *PacketConn) localOf(r *route) netip.AddrPort {
	if r.local.addr.IsValid() {
		return netip.AddrPortFrom(r.local.addr, pc.localAddr.Port())
	}
	return pc.localAddr
}

// maxDatagram is more than UDP can carry: 65,507 bytes over IPv4 and 65,527 over IPv6.
const maxDatagram = 1<<16 - 1

// A reader is what reading a datagram takes. Readers are pooled.
type reader struct {
	addrs addrMemory
	oob   [lenLocal]byte
	data  [maxDatagram]byte // in case the caller's buffer might not hold header and payload
}

var readers = sync.Pool{New: func() any { return new(reader) }}

// ReadFrom reads the next datagram that the Policy and its header let in. It returns the length
// of the payload, which it puts into b, and the client's address: the header's source, or the
// peer's own for a datagram without one, with LOCAL, UNKNOWN or UNSPEC, or with a Unix socket for a
// source. It is a *net.UDPAddr, unless inner's addresses aren't. n is 0 if nothing follows the
// header.
//
// b needs no room for the header. A payload longer than b is cut, as on a *net.UDPConn. What
// peers send is never an error: those are inner's, by its deadline or by Close for example.
//
// Addresses share memory: one that is kept keeps up to seven others, 1 KiB at most with them unless
// there are TLVs. While it waits it uses a buffer of 64 KiB, from a pool, if b is shorter than
// that.
func (pc *PacketConn) ReadFrom(b []byte) (n int, addr net.Addr, err error) {
	mem := readers.Get().(*reader)
	defer readers.Put(mem)
	buf := b
	if len(b) < maxDatagram {
		buf = mem.data[:]
	}
	for {
		var r route
		n, err := pc.receive(buf, mem.oob[:], &r)
		if err != nil {
			return 0, nil, err
		}
		payload, ok := pc.open(buf[:n], &r)
		if !ok {
			continue
		}
		pc.note(&r)
		addr := pc.address(&r, &mem.addrs) // before the payload takes the header's place
		return copy(b, payload), addr, nil
	}
}

// receive reads a datagram, and how it came.
func (pc *PacketConn) receive(buf, oob []byte, r *route) (n int, err error) {
	switch {
	case pc.wildcard:
		var oobn int
		n, oobn, _, r.peer, err = pc.udp.ReadMsgUDPAddrPort(buf, oob)
		if err == nil {
			r.local = parseLocal(oob[:oobn])
		}
	case pc.udp != nil:
		n, r.peer, err = pc.udp.ReadFromUDPAddrPort(buf)
	default:
		var from net.Addr
		n, from, err = pc.inner.ReadFrom(buf)
		if r.peer = addrPort(from); err == nil {
			if _, ok := from.(*net.UDPAddr); !ok && !isNil(from) {
				r.inner = from
			}
		}
		return n, err
	}
	r.peer = netip.AddrPortFrom(r.peer.Addr().Unmap(), r.peer.Port())
	return n, err
}

// note remembers a datagram's client, if it is asked to.
func (pc *PacketConn) note(r *route) {
	if recent := pc.recent.Load(); recent != nil && r.client.IsValid() {
		way := *r
		way.tlvs = nil
		recent.note(r.client, way)
	}
}

// address returns the address for a datagram's client.
func (pc *PacketConn) address(r *route, mem *addrMemory) net.Addr {
	if r.inner != nil || !r.peer.IsValid() {
		return newOtherAddr(r)
	}
	return mem.newAddr(r)
}

// addrMemory is for addresses to be given out: memory for several at once is cheaper than for each.
type addrMemory struct {
	addrs []net.UDPAddr
	forms []byte
	last  *net.UDPAddr // that was shared
}

// sharedAddr returns the address of a route: the last one, if its route is the same. A
// client's datagrams come in rows, and each would leave garbage.
func (m *addrMemory) sharedAddr(r *route) *net.UDPAddr {
	if last, ok := routeOf(m.last); !ok || !last.same(r) {
		m.last = m.newAddr(r)
	}
	return m.last
}

// newAddr returns the address of a route.
func (m *addrMemory) newAddr(r *route) *net.UDPAddr {
	const atOnce, lenForms = 8, 512
	if len(m.addrs) == 0 {
		m.addrs = make([]net.UDPAddr, atOnce)
	}
	a := &m.addrs[0]
	m.addrs = m.addrs[1:]
	if need := maxRoute + len(r.peer.Addr().Zone()) + 3 + len(r.tlvs); cap(m.forms) < need {
		m.forms = make([]byte, 0, max(lenForms, need))
	}
	form, ip := r.encode(m.forms)
	a.IP = form[:ip:len(form)]
	a.Port, a.Zone = int(r.client.Port()), r.client.Addr().Zone()
	m.forms = form[len(form):]
	return a
}

// WriteTo sends b to the client whose address addr is, through the proxy that its datagram came
// from. No header is put before b: proxies expect none from servers. addr is one that ReadFrom
// returned, or a copy of the struct; see [RouteOf].
//
// An address without a [Route] is taken for that of a direct peer, and written to, if the Policy
// lets that peer do without a header (Skip, Optional, Ignore). Otherwise the error is matched by
// [ErrNoRoute]: a reply that was sent there would come from an address that the client hasn't
// asked. See [PacketConn.Remember] for programs that make addresses anew.
func (pc *PacketConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	r, ok := pc.wayTo(addr)
	if !ok {
		return 0, pc.opError("write", addr, ErrNoRoute)
	}
	switch {
	case r.inner != nil:
		return pc.inner.WriteTo(b, r.inner)
	case pc.udp == nil:
		return pc.inner.WriteTo(b, net.UDPAddrFromAddrPort(r.peer))
	case pc.wildcard && r.local.addr.IsValid():
		var oob [64]byte
		n, _, err := pc.udp.WriteMsgUDPAddrPort(b, appendLocal(oob[:0], r.local), r.peer)
		return n, err
	}
	return pc.udp.WriteToUDPAddrPort(b, r.peer)
}

// wayTo returns how to reach addr.
func (pc *PacketConn) wayTo(addr net.Addr) (r route, ok bool) {
	r, ok = routeOf(addr)
	client := r.client
	if !ok {
		client = addrPort(addr)
	}
	if recent := pc.recent.Load(); recent != nil && (!ok || r.destination.IsValid()) {
		// What it has sent elsewhere is another matter.
		if way, known := recent.find(client, false); known &&
			(!ok || way.destination == r.destination) {
			return way, true
		}
	}
	if ok {
		return r, r.peer.IsValid() || r.inner != nil
	}
	return pc.wayToDirect(addr, client)
}

// wayToDirect returns how to reach a peer that needs no header.
func (pc *PacketConn) wayToDirect(addr net.Addr, peer netip.AddrPort) (r route, ok bool) {
	if addr == nil || isNil(addr) || pc.udp != nil && !peer.IsValid() {
		return r, false
	}
	switch (*pc.policy.Load())(proxyproto.Peer{Addr: plain(peer), Local: pc.localAddr}) {
	case proxyproto.Skip, proxyproto.Optional, proxyproto.Ignore:
		r = route{client: peer, peer: peer}
		if pc.udp == nil {
			r.inner = addr
		}
		return r, true
	}
	return r, false
}

// Remember makes WriteTo know up to that many clients, those heard of last, each for as long as
// age after its last datagram. It is for programs that
//
//   - don't keep the address that ReadFrom returned but make it anew: WriteTo takes plain addresses
//     of the clients that it knows;
//   - talk with a client for longer than proxies keep their sockets, as QUIC does: replies go
//     through the one by which the client was heard of last to the same destination, though
//     the address that WriteTo gets may be older.
//
// It costs a lock for each datagram and some 400 bytes for each client. Zero clients, or a zero
// age, end it and forget all; that is how a PacketConn begins.
//
// Whoever can send through one of the proxies with the source address of a client can turn that
// client's replies over to this proxy. Without Remember nobody can.
func (pc *PacketConn) Remember(clients int, age time.Duration) {
	if clients <= 0 || age <= 0 {
		pc.recent.Store(nil)
		return
	}
	pc.recent.Store(newHeard[route](clients, age))
}

// NetPacketConn returns the inner connection. Its datagrams have their headers, and what it
// writes goes where the address says.
func (pc *PacketConn) NetPacketConn() net.PacketConn { return pc.inner }

// LocalAddr returns the inner connection's address. What a client has sent its datagram to is
// [Route].Destination.
func (pc *PacketConn) LocalAddr() net.Addr { return pc.inner.LocalAddr() }

// Close closes the inner connection. A ReadFrom or WriteTo that waits returns with an error.
func (pc *PacketConn) Close() error { return pc.inner.Close() }

// SetDeadline sets the read and write deadlines.
func (pc *PacketConn) SetDeadline(t time.Time) error { return pc.inner.SetDeadline(t) }

// SetReadDeadline sets the deadline of reads. Datagrams that are dropped don't extend it.
func (pc *PacketConn) SetReadDeadline(t time.Time) error { return pc.inner.SetReadDeadline(t) }

// SetWriteDeadline sets the deadline of writes.
func (pc *PacketConn) SetWriteDeadline(t time.Time) error { return pc.inner.SetWriteDeadline(t) }

// SetReadBuffer sets the size of the kernel's receive buffer. If the inner connection can't, the
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
	e := &net.OpError{Op: op, Source: pc.inner.LocalAddr(), Err: err}
	if !isNil(addr) {
		e.Addr = addr // whose String can be called
	}
	if e.Source != nil {
		e.Net = e.Source.Network()
	}
	return e
}

// isNil reports whether v is nil, or holds a nil pointer.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	value := reflect.ValueOf(v)
	return value.Kind() == reflect.Pointer && value.IsNil()
}
