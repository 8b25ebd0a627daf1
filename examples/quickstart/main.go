// Quickstart shows the library at work with nothing installed: two servers behind a proxy, one on a
// plain listener and one on this library's, and clients that connect to both from addresses of
// their own.
//
//	go run ./examples/quickstart
//
// It prints whom each server took each client for, and exits with 1 if this library was wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

func main() {
	log.SetFlags(0)
	ok, err := run(os.Stdout)
	if err != nil {
		log.Fatal(err)
	}
	if !ok {
		log.Fatal("the server took a client for another")
	}
}

// A kind of header that a proxy sends; the zero value is none.
type kind struct {
	name    string
	version proxyproto.Version
	tlvs    bool
}

var kinds = []kind{
	{"version 1", proxyproto.V1, false},
	{"version 2", proxyproto.V2, false},
	{"version 2 with TLVs", proxyproto.V2, true},
}

const clientsPerKind = 3

func run(out io.Writer) (ok bool, err error) {
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return false, err
	}
	defer plain.Close()
	go serve(plain, greet)
	ours, err := proxyproto.Listen("tcp", "127.0.0.1:0", &proxyproto.Config{
		Policy: proxyproto.Trust(netip.MustParsePrefix("127.0.0.0/8")), // where the proxy is
		OnDrop: proxyproto.LogDrops(nil),
	})
	if err != nil {
		return false, err
	}
	defer ours.Close()
	go serve(ours, greet)

	toPlain, err := startProxy(plain.Addr(), kind{})
	if err != nil {
		return false, err
	}
	defer toPlain.Close()
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "CLIENT\tA PLAIN LISTENER SEES\tTHIS ONE SEES\tBY A HEADER OF\tTLVS\t")
	ok = true
	for k, kind := range kinds {
		toOurs, err := startProxy(ours.Addr(), kind)
		if err != nil {
			return false, err
		}
		defer toOurs.Close()
		for i := range clientsPerKind {
			d := clientOf(k*clientsPerKind + i)
			_, without, err := ask(d, toPlain.Addr())
			if err != nil {
				return false, err
			}
			client, with, err := ask(d, toOurs.Addr())
			if err != nil {
				return false, err
			}
			saw, tlvs, _ := strings.Cut(with, " ")
			verdict := ""
			if saw != client || (tlvs != "") != kind.tlvs {
				verdict, ok = "WRONG", false
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", client, without, saw, kind.name, tlvs, verdict)
		}
	}
	return ok, table.Flush()
}

// greet tells a client who it is, and what the header says besides.
func greet(c net.Conn) {
	defer c.Close()
	line := c.RemoteAddr().String()
	if conn, ok := proxyproto.FromConn(c); ok && conn.Header() != nil { // nil without a header
		for typ, value := range conn.Header().TLVs.All() {
			line += fmt.Sprintf(" %v=%q", typ, value)
		}
	}
	fmt.Fprintln(c, line)
}

// startProxy starts a TCP proxy that begins each connection to the server with a header of the kind.
func startProxy(server net.Addr, kind kind) (net.Listener, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go serve(ln, func(client net.Conn) {
		defer client.Close()
		if err := relay(client, server, kind); err != nil {
			log.Print(err)
		}
	})
	return ln, nil
}

// relay passes on what the server says. The clients here say nothing: examples/relay does both.
func relay(client net.Conn, server net.Addr, kind kind) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	upstream, err := dial(ctx, client, server, kind)
	if err != nil {
		return err
	}
	defer upstream.Close()
	_, err = io.Copy(client, upstream)
	return err
}

func dial(ctx context.Context, client net.Conn, server net.Addr, kind kind) (net.Conn, error) {
	if kind.version == 0 {
		return new(net.Dialer).DialContext(ctx, server.Network(), server.String())
	}
	header, err := proxyproto.HeaderFor(client, kind.version)
	if err != nil {
		return nil, err
	}
	if kind.tlvs {
		header.TLVs, err = header.TLVs.Set(proxyproto.TypeAuthority, []byte("example.com"))
		if err != nil {
			return nil, err
		}
	}
	return new(proxyproto.Dialer).DialHeader(ctx, server.Network(), server.String(), header)
}

// serve handles connections until ln is closed. Other errors of Accept, such as too many open
// files, pass: the server must outlive them.
func serve(ln net.Listener, handle func(c net.Conn)) error {
	for {
		c, err := ln.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			log.Printf("accept: %v; trying again", err)
			time.Sleep(100 * time.Millisecond)
		default:
			go handle(c)
		}
	}
}

// clientOf has an address of its own: on Linux the whole of 127.0.0.0/8 is this machine's.
func clientOf(i int) *net.Dialer {
	d := new(net.Dialer)
	if runtime.GOOS == "linux" {
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i))}
	}
	return d
}

// ask connects through a proxy and returns who the client is and what the server said.
func ask(d *net.Dialer, proxy net.Addr) (client, said string, err error) {
	c, err := d.Dial(proxy.Network(), proxy.String())
	if err != nil {
		return "", "", err
	}
	defer c.Close()
	answer, err := io.ReadAll(c)
	return c.LocalAddr().String(), strings.TrimSuffix(string(answer), "\n"), err
}
