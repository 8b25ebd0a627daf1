package proxyudp

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/net/ipv4"
)

// QUICConn is a [PacketConn] that quic-go takes for a real socket, so that it keeps what it does
// with one: segmentation offload (GSO) for what it sends, ECN, path MTU discovery and batches.
// Give it to quic.Transport.Conn. What else is offered follows what quic-go v0.54 and later ask
// for, and may change with that.
//
// SyscallConn is the socket's own: it is for options, and what is read or written through it goes
// past the headers. That is why a PacketConn, which any server may use, doesn't have it. Receive
// offload (GRO) must stay off, as it is by default, since every datagram has a header: NewQUICConn
// switches it off.
//
// Datagrams of one client that follow each other come with one address: don't change it.
//
// [PacketConn.Remember] is for proxies that change the socket of a client that is silent for a
// while, as most do after some seconds: a QUIC connection lasts longer.
type QUICConn struct {
	*PacketConn
	batch   *ipv4.PacketConn
	batches sync.Pool // of *batch
}

// NewQUICConn returns a QUICConn around inner. It returns an error as [NewPacketConn] does.
func NewQUICConn(inner *net.UDPConn, cfg *Config) (*QUICConn, error) {
	if inner == nil {
		return nil, errors.New("proxyudp: the inner connection is nil")
	}
	pc, err := NewPacketConn(inner, cfg)
	if err != nil {
		return nil, err
	}
	switchGROOff(inner)
	return &QUICConn{PacketConn: pc, batch: ipv4.NewPacketConn(inner)}, nil
}

// SyscallConn returns the socket, for its options.
func (c *QUICConn) SyscallConn() (syscall.RawConn, error) { return c.udp.SyscallConn() }

// ReadMsgUDP is ReadFrom with the control messages of the datagram. flags say of the payload and of
// the control messages whether they were cut, as on a *net.UDPConn.
func (c *QUICConn) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	mem := readers.Get().(*reader)
	defer readers.Put(mem)
	own := c.roomForLocal(oob, mem.oob[:])
	for {
		var r route
		n, oobn, flags, r.peer, err = c.udp.ReadMsgUDPAddrPort(mem.data[:], own)
		if err != nil {
			return 0, 0, 0, nil, err
		}
		if addr, payload, ok := c.admit(mem.data[:n], own[:oobn], &r, &mem.addrs); ok {
			n = copy(b, payload)
			oobn, cut := copyControls(oob, own[:oobn])
			return n, oobn, flags | flagsOfCut(n < len(payload), cut), addr, nil
		}
	}
}

// roomForLocal returns oob, or own if the kernel has to say in the control messages where a
// datagram came to and oob might not hold that.
func (c *QUICConn) roomForLocal(oob, own []byte) []byte {
	if c.wildcard && len(oob) < lenLocal {
		return own
	}
	return oob
}

// copyControls copies control messages: all, or none if they don't fit. A part is no message.
func copyControls(to, from []byte) (n int, cut bool) {
	if len(from) > len(to) {
		return 0, true
	}
	return copy(to, from), false
}

// flagsOfCut are the flags that say what the caller's buffers had no room for.
func flagsOfCut(payload, controls bool) (flags int) {
	if payload {
		flags |= flagPayloadCut
	}
	if controls {
		flags |= flagControlsCut
	}
	return flags
}

// admit judges a datagram that came from r.peer.
func (c *QUICConn) admit(datagram, oob []byte, r *route, mem *addrMemory) (
	addr *net.UDPAddr, payload []byte, ok bool) {
	r.peer = netip.AddrPortFrom(r.peer.Addr().Unmap(), r.peer.Port())
	if c.wildcard {
		r.local = parseLocal(oob)
	}
	if payload, ok = c.open(datagram, r); !ok {
		return nil, nil, false
	}
	c.note(r)
	return mem.sharedAddr(r), payload, true
}

// WriteMsgUDP is WriteTo with control messages. Those that depend on the family or the address of
// the other end (ECN marks, packet information) are made those of the one that b is sent to, which
// is the proxy and not the client.
func (c *QUICConn) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	r, ok := c.wayTo(addr)
	if !ok {
		return 0, 0, c.opError("write", addr, ErrNoRoute)
	}
	if !c.wildcard && r.peer.Addr().Is4() == r.client.Addr().Is4() {
		return c.udp.WriteMsgUDPAddrPort(b, oob, r.peer)
	}
	var mem [128]byte
	if n, _, err = c.udp.WriteMsgUDPAddrPort(b, controlsFor(mem[:0], oob, &r), r.peer); err != nil {
		return n, 0, err
	}
	return n, len(oob), nil
}

// A batch is what reading several datagrams takes.
type batch struct {
	addrs    addrMemory
	messages []ipv4.Message
	oobs     [][lenLocal]byte // one for each of messages
}

// prepare makes the batch's messages ready to be read into, one for each of ms: with room for a
// header before the payload, and the control messages where the caller wants them.
func (c *QUICConn) prepare(p *batch, ms []ipv4.Message) []ipv4.Message {
	for len(p.messages) < len(ms) {
		p.messages = append(p.messages, ipv4.Message{Buffers: make([][]byte, 1)})
		p.oobs = append(p.oobs, [lenLocal]byte{})
	}
	in := p.messages[:len(ms)]
	for i := range in {
		need := c.cfg.MaxHeaderSize
		for _, b := range ms[i].Buffers {
			need += len(b)
		}
		if buf := in[i].Buffers[0]; cap(buf) < need {
			in[i].Buffers[0] = make([]byte, need)
		} else {
			in[i].Buffers[0] = buf[:need]
		}
		in[i].OOB = c.roomForLocal(ms[i].OOB, p.oobs[i][:])
	}
	return in
}

// ReadBatch reads up to len(ms) datagrams, as ipv4.PacketConn's does: at least one that the Policy
// and its header let in. The payloads are copied into the Buffers, which need no room for headers.
// If they don't fit the message's Flags say so. flags may be those that say how long to wait
// (MSG_DONTWAIT, MSG_WAITFORONE, on Linux); the error for others is matched by
// errors.ErrUnsupported.
func (c *QUICConn) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	if flags&^flagsOfWaiting != 0 {
		return 0, c.opError("read", nil, errors.ErrUnsupported)
	}
	if len(ms) == 0 {
		return 0, nil
	}
	p, _ := c.batches.Get().(*batch)
	if p == nil {
		p = new(batch)
	}
	defer c.batches.Put(p)
	in := c.prepare(p, ms)
	for {
		n, err := c.batch.ReadBatch(in, flags)
		if err != nil {
			return 0, err
		}
		good := 0
		for i := range in[:n] {
			if c.deliver(&in[i], &ms[good], &p.addrs) {
				good++
			}
		}
		if good > 0 || n == 0 {
			return good, nil
		}
	}
}

// deliver judges a datagram and makes out what it is to the caller.
func (c *QUICConn) deliver(in, out *ipv4.Message, mem *addrMemory) bool {
	from, ok := in.Addr.(*net.UDPAddr)
	if !ok {
		return false
	}
	r := route{peer: from.AddrPort()}
	addr, payload, ok := c.admit(in.Buffers[0][:in.N], in.OOB[:in.NN], &r, mem)
	if !ok {
		return false
	}
	out.N = 0
	for _, b := range out.Buffers {
		k := copy(b, payload)
		payload = payload[k:]
		out.N += k
	}
	var cut bool
	// in place, unless one before it was dropped
	out.NN, cut = copyControls(out.OOB, in.OOB[:in.NN])
	out.Addr, out.Flags = addr, in.Flags|flagsOfCut(len(payload) > 0, cut)
	return true
}
