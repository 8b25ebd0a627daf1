package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

// datagrams judges datagrams one by one, and counts them as a Listener counts connections.
type datagrams struct {
	cfg   *proxyproto.Config
	stats proxyproto.Stats
}

// serveDatagrams echoes datagrams until ctx ends or there were enough.
func (l *log) serveDatagrams(ctx context.Context, address string, cfg *proxyproto.Config) error {
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		return networkError(err)
	}
	pc := conn.(*net.UDPConn)
	defer pc.Close()
	l.print(listening(pc.LocalAddr()))
	d := &datagrams{cfg: cfg, stats: proxyproto.Stats{Dropped: map[proxyproto.Reason]uint64{}}}
	failed := make(chan error, 1)
	go func() { failed <- d.echo(l, pc) }()
	ended := false
	select {
	case <-ctx.Done():
	case <-l.full:
	case err = <-failed:
		err, ended = networkError(err), true
	}
	if !ended {
		// A datagram that has been printed is still answered before the socket is closed.
		pc.SetReadDeadline(time.Now())
		<-failed
	}
	l.print(done(d.stats))
	return err
}

func (d *datagrams) echo(l *log, pc *net.UDPConn) error {
	local := pc.LocalAddr().(*net.UDPAddr).AddrPort()
	b := make([]byte, 1<<16)
	for {
		n, addr, err := pc.ReadFromUDPAddrPort(b)
		if err != nil {
			return err
		}
		addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
		peer := proxyproto.Peer{Addr: netip.AddrPortFrom(addr.Addr().WithZone(""), addr.Port()),
			Local: local}
		d.stats.Accepted++
		h, payload, drop := d.judge(peer, b[:n])
		if drop != nil {
			d.stats.Dropped[drop.Reason]++
			d.cfg.OnDrop(peer, drop)
			continue
		}
		size := len(payload)
		if !l.print(arrived("datagram", peer.String(), h, &size)) {
			return nil
		}
		pc.WriteToUDPAddrPort(payload, addr)
	}
}

// judge returns what a datagram's header says, nil if it has none that is believed, and its
// payload, or why it is dropped.
func (d *datagrams) judge(peer proxyproto.Peer, b []byte) (*proxyproto.Header, []byte,
	*proxyproto.DropError) {
	action := d.cfg.Policy(peer)
	switch action {
	case proxyproto.Reject:
		return nil, nil, &proxyproto.DropError{Reason: proxyproto.ReasonRejected,
			Err: errors.New("the peer isn't trusted")}
	case proxyproto.Skip:
		d.stats.Skipped++
		return nil, b, nil
	}
	h, n, err := proxyproto.Parse(b)
	bare := errors.Is(err, proxyproto.ErrNoHeader) || errors.Is(err, proxyproto.ErrIncomplete) &&
		len(b) < len(signature)
	if bare && action != proxyproto.Require {
		d.stats.Bare++
		return nil, b, nil
	}
	drop := &proxyproto.DropError{Err: err, Bytes: slices.Clone(b[:min(len(b), previewSize)])}
	switch {
	case errors.Is(err, proxyproto.ErrNoHeader):
		drop.Reason = proxyproto.ReasonNoHeader
	case errors.Is(err, proxyproto.ErrIncomplete):
		drop.Reason = proxyproto.ReasonIncomplete
	case err != nil:
		drop.Reason = proxyproto.ReasonMalformed
	case !slices.Contains(d.cfg.Versions, h.Version):
		drop.Reason, drop.Err = proxyproto.ReasonVersion,
			errors.New("the header's version isn't accepted")
	case n > d.cfg.MaxHeaderSize:
		drop.Reason, drop.Err = proxyproto.ReasonTooLarge,
			errors.New("the header is longer than --max-size")
	case action == proxyproto.Ignore:
		d.stats.Ignored++
		return nil, b[n:], nil
	case h.Command == proxyproto.Local:
		d.stats.Local++
		return &h, b[n:], nil
	case h.Version == proxyproto.V1:
		d.stats.V1++
		return &h, b[n:], nil
	default:
		d.stats.V2++
		return &h, b[n:], nil
	}
	return nil, nil, drop
}
