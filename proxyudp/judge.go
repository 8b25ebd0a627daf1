package proxyudp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/seed2e8fe8ee/proxyproto"
)

// open judges a datagram that came by the route, which has all but the client. It returns the
// payload and completes the route, or it drops the datagram.
func (pc *PacketConn) open(datagram []byte, r *route) (payload []byte, ok bool) {
	r.client = r.peer
	peer := proxyproto.Peer{Addr: plain(r.peer), Local: pc.localOf(r)}
	action := (*pc.policy.Load())(peer)
	switch action {
	case proxyproto.Require, proxyproto.Optional, proxyproto.Ignore:
	case proxyproto.Skip:
		pc.stats.count(servedSkipped)
		return datagram, true
	default:
		return nil, pc.drop(peer, proxyproto.ReasonRejected, errRejected, nil)
	}
	h, n, err := proxyproto.Parse(datagram)
	switch {
	case err == proxyproto.ErrNoHeader, err == proxyproto.ErrIncomplete && !begun(datagram):
		return datagram, pc.openBare(datagram, r, peer, action, err)
	case err != nil:
		reason := proxyproto.ReasonMalformed
		if err == proxyproto.ErrIncomplete {
			reason = proxyproto.ReasonIncomplete
			if size := claimedSize(datagram); size > pc.cfg.MaxHeaderSize {
				reason, err = pc.tooLarge(size)
			}
		}
		return nil, pc.drop(peer, reason, err, datagram)
	case len(pc.cfg.Versions) > 0 && !slices.Contains(pc.cfg.Versions, h.Version):
		return nil, pc.drop(peer, proxyproto.ReasonVersion,
			fmt.Errorf("proxyudp: a %v header isn't accepted here", h.Version), datagram)
	case n > pc.cfg.MaxHeaderSize:
		reason, err := pc.tooLarge(n)
		return nil, pc.drop(peer, reason, err, datagram)
	case action == proxyproto.Ignore:
		pc.stats.count(servedIgnored)
		return datagram[n:], true
	}
	if pc.cfg.Validate != nil {
		if err := pc.cfg.Validate(peer, h.Clone()); err != nil {
			return nil, pc.drop(peer, proxyproto.ReasonInvalid, err, datagram)
		}
	}
	if h.Source.IsValid() {
		r.client, r.destination = plain(h.Source), plain(h.Destination)
	}
	r.tlvs = h.TLVs
	if pc.sessions != nil && r.peer.IsValid() {
		pc.keepSession(&h, r)
	}
	pc.stats.count(outcomeOf(&h))
	return datagram[n:], true
}

// openBare judges a datagram without a header; err is what Parse says of that.
func (pc *PacketConn) openBare(datagram []byte, r *route, peer proxyproto.Peer,
	action proxyproto.Action, err error) bool {
	if pc.sessions != nil && action != proxyproto.Ignore {
		if s, ok := pc.sessions.find(r.peer, true); ok {
			s.speak(r)
			pc.stats.count(s.counts)
			return true
		}
	}
	switch {
	case action != proxyproto.Require:
		pc.stats.count(servedBare)
		return true
	case len(datagram) == 0:
		pc.stats.count(probed)
		return false
	case err == proxyproto.ErrIncomplete:
		return pc.drop(peer, proxyproto.ReasonIncomplete, err, datagram)
	}
	return pc.drop(peer, proxyproto.ReasonNoHeader, err, datagram)
}

func outcomeOf(h *proxyproto.Header) outcome {
	switch {
	case h.Version == proxyproto.V1:
		return servedV1
	case h.Command == proxyproto.Local:
		return servedLocal
	}
	return servedV2
}

var (
	startV1     = []byte("PROXY")
	signatureV2 = []byte("\r\n\r\n\x00\r\nQUIT\n")
)

// begun reports whether b has all that tells a header from any other protocol.
func begun(b []byte) bool {
	return bytes.HasPrefix(b, startV1) || bytes.HasPrefix(b, signatureV2)
}

// claimedSize returns the least size of the header that b breaks off in.
func claimedSize(b []byte) int {
	const fixed = 16
	if len(b) < fixed || !bytes.HasPrefix(b, signatureV2) {
		return len(b)
	}
	return fixed + int(binary.BigEndian.Uint16(b[fixed-2:]))
}

var errRejected = errors.New("proxyudp: the policy rejects this peer")

func (pc *PacketConn) tooLarge(size int) (proxyproto.Reason, error) {
	return proxyproto.ReasonTooLarge, fmt.Errorf(
		"proxyudp: a header of %d bytes or more is over the limit of %d", size, pc.cfg.MaxHeaderSize)
}

// drop counts a datagram and reports it to OnDrop. It returns false.
func (pc *PacketConn) drop(p proxyproto.Peer, reason proxyproto.Reason, err error, b []byte) bool {
	pc.stats.drop(reason)
	if pc.cfg.OnDrop == nil {
		return false // without garbage: strangers may send a lot
	}
	const most = 16
	if fault, ok := err.(*proxyproto.FormatError); ok {
		end := min(len(b), max(fault.Offset+1, most))
		b = b[max(0, end-most):end]
	}
	own := append([]byte(nil), b[:min(len(b), most)]...)
	pc.cfg.OnDrop(p, &proxyproto.DropError{Reason: reason, Err: err, Bytes: own})
	return false
}

// A session is what a peer's last header says of the datagrams that follow it without one.
type session struct {
	client, destination netip.AddrPort // the peer, if it speaks for itself
	tlvs                []byte
	counts              outcome
}

// keepSession makes the header, whose route is r, the peer's session.
func (pc *PacketConn) keepSession(h *proxyproto.Header, r *route) {
	s, ok := pc.sessions.find(r.peer, true)
	counts := outcomeOf(h)
	if ok && s.client == r.client && s.destination == r.destination && s.counts == counts &&
		bytes.Equal(s.tlvs, r.tlvs) {
		return
	}
	pc.sessions.note(r.peer, &session{
		client: r.client, destination: r.destination, counts: counts,
		tlvs: append([]byte(nil), r.tlvs...),
	})
}

// speak completes the route of a datagram of the session.
func (s *session) speak(r *route) {
	r.client, r.destination, r.tlvs = s.client, s.destination, s.tlvs
}
