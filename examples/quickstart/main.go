// Quickstart shows the library at work with nothing installed: a server on its Listener, a
// small proxy in front, and clients that connect through it from addresses of their own.
//
//	go run ./examples/quickstart
//
// It prints what the server saw of each client, and exits with 1 if that isn't who it was.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"strings"
	"text/tabwriter"

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

// The headers that the proxy sends.
var kinds = []struct {
	name    string
	version proxyproto.Version
	tlvs    bool
}{
	{"v1", proxyproto.V1, false},
	{"v2", proxyproto.V2, false},
	{"v2 with TLVs", proxyproto.V2, true},
}

const clientsPerKind = 3

func run(out io.Writer) (ok bool, err error) {
	server, err := startServer()
	if err != nil {
		return false, err
	}
	defer server.Close()
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "CLIENT\tHEADER\tTHE SERVER SAW\tTLVS\t")
	ok = true
	for _, kind := range kinds {
		proxy, err := startProxy(server.Addr().String(), kind.version, kind.tlvs)
		if err != nil {
			return false, err
		}
		defer proxy.Close()
		for range clientsPerKind {
			client, saw, tlvs, err := ask(proxy.Addr().String())
			if err != nil {
				return false, err
			}
			want := ""
			if kind.tlvs {
				want = `AUTHORITY="example.com" ALPN="h2"`
			}
			verdict := ""
			if saw != client || tlvs != want {
				verdict, ok = "WRONG", false
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", client, kind.name, saw, tlvs, verdict)
		}
	}
	return ok, table.Flush()
}

// startServer starts a server that tells each client in a line who it is, and with which TLVs
// it came.
func startServer() (net.Listener, error) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ln, err := proxyproto.NewListener(inner, &proxyproto.Config{
		Policy: proxyproto.Trust(netip.MustParsePrefix("127.0.0.0/8")),
	})
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var tlvs []string
				if conn, ok := proxyproto.FromConn(c); ok {
					for typ, value := range conn.Header().TLVs.All() {
						tlvs = append(tlvs, fmt.Sprintf("%v=%q", typ, value))
					}
				}
				fmt.Fprintf(c, "%v\t%s\n", c.RemoteAddr(), strings.Join(tlvs, " "))
			}()
		}
	}()
	return ln, nil
}

// startProxy starts a proxy that begins each connection to the server with a header for the client.
func startProxy(server string, version proxyproto.Version, tlvs bool) (net.Listener, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer client.Close()
				if err := relay(client, server, version, tlvs); err != nil {
					log.Print(err)
				}
			}()
		}
	}()
	return ln, nil
}

func relay(client net.Conn, server string, version proxyproto.Version, tlvs bool) error {
	header, err := proxyproto.HeaderFor(client, version)
	if err != nil {
		return err
	}
	if tlvs {
		if header.TLVs, err = header.TLVs.Append(proxyproto.TypeAuthority, []byte("example.com")); err != nil {
			return err
		}
		if header.TLVs, err = header.TLVs.Append(proxyproto.TypeALPN, []byte("h2")); err != nil {
			return err
		}
	}
	var dialer proxyproto.Dialer
	upstream, err := dialer.DialContext(proxyproto.WithHeader(context.Background(), header), "tcp", server)
	if err != nil {
		return err
	}
	defer upstream.Close()
	_, err = io.Copy(client, upstream)
	return err
}

// ask connects through the proxy and returns who the client is and what the server saw.
func ask(proxy string) (client, saw, tlvs string, err error) {
	c, err := net.Dial("tcp", proxy)
	if err != nil {
		return "", "", "", err
	}
	defer c.Close()
	answer, err := io.ReadAll(c)
	if err != nil {
		return "", "", "", err
	}
	saw, tlvs, _ = strings.Cut(strings.TrimSuffix(string(answer), "\n"), "\t")
	return c.LocalAddr().String(), saw, tlvs, nil
}
