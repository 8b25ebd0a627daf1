package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/proxyudp"
)

const protocol = "compare"

// quicConfig is both ends': windows that don't limit one connection.
var quicConfig = &quic.Config{
	MaxIdleTimeout:                 time.Hour,
	InitialStreamReceiveWindow:     16 << 20,
	MaxStreamReceiveWindow:         16 << 20,
	InitialConnectionReceiveWindow: 24 << 20,
	MaxConnectionReceiveWindow:     24 << 20,
}

// serveQUIC is a server on a socket of the kind. It prints its address, and ends with its parent.
func serveQUIC(kind string) error {
	inner, err := net.ListenUDP("udp4", loopback)
	if err != nil {
		return err
	}
	cfg := &proxyudp.Config{Policy: proxyproto.Trust(netip.MustParsePrefix("127.0.0.0/8"))}
	conn := net.PacketConn(inner)
	switch kind {
	case "PacketConn":
		conn, err = proxyudp.NewPacketConn(inner, cfg)
	case "QUICConn":
		conn, err = proxyudp.NewQUICConn(inner, cfg)
	}
	if err != nil {
		return err
	}
	certificate, err := newCertificate()
	if err != nil {
		return err
	}
	transport := &quic.Transport{Conn: conn}
	ln, err := transport.Listen(&tls.Config{
		Certificates: []tls.Certificate{certificate}, NextProtos: []string{protocol},
	}, quicConfig)
	if err != nil {
		return err
	}
	fmt.Println(conn.LocalAddr())
	for {
		conn, err := ln.Accept(context.Background())
		if err != nil {
			return err
		}
		go serveConn(conn)
	}
}

func serveConn(conn *quic.Conn) {
	for {
		stream, err := conn.AcceptStream(context.Background())
		if err != nil {
			return
		}
		go serveStream(stream)
	}
}

func serveStream(stream *quic.Stream) {
	defer stream.Close()
	var head [8]byte
	if _, err := io.ReadFull(stream, head[:]); err != nil {
		return
	}
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return
	}
	n := binary.BigEndian.Uint64(head[:])
	if n == askCPU {
		stream.Write(binary.BigEndian.AppendUint64(nil, cpuTime()))
		return
	}
	send(stream, int(n))
}

// cpuTime is this process's, in nanoseconds.
func cpuTime() uint64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return uint64(usage.Utime.Nano() + usage.Stime.Nano())
}

func newCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().AddDate(0, 0, 1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// relayTo passes datagrams on to a server, with headers or without. It prints its address.
func relayTo(server string, headers bool) error {
	to, err := net.ResolveUDPAddr("udp4", server)
	if err != nil {
		return err
	}
	front, err := net.ListenUDP("udp4", loopback)
	if err != nil {
		return err
	}
	front.SetReadBuffer(8 << 20)
	fmt.Println(front.LocalAddr())
	type client struct {
		out    *net.UDPConn
		header []byte
	}
	clients := map[netip.AddrPort]client{}
	const room = 28 // for a header
	b := make([]byte, 4096)
	for {
		n, addr, err := front.ReadFromUDPAddrPort(b[room:])
		if err != nil {
			return err
		}
		c, ok := clients[addr]
		if !ok {
			if c.out, err = net.DialUDP("udp4", nil, to); err != nil {
				return err
			}
			c.out.SetReadBuffer(8 << 20)
			if headers {
				h := proxyproto.NewHeader(net.UDPAddrFromAddrPort(addr), front.LocalAddr(), proxyproto.V2)
				if c.header, err = proxyudp.AppendPacket(nil, h, nil, room); err != nil {
					return err
				}
			}
			clients[addr] = c
			go back(front, c.out, addr)
		}
		start := room - copy(b[room-len(c.header):], c.header)
		c.out.Write(b[start : room+n])
	}
}

// back passes on what the server replies.
func back(front, out *net.UDPConn, to netip.AddrPort) {
	b := make([]byte, 4096)
	for {
		n, err := out.Read(b)
		if err != nil {
			return
		}
		front.WriteToUDPAddrPort(b[:n], to)
	}
}
