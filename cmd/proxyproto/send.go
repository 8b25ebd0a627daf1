package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

const sendUsage = `Usage: proxyproto send [flags] host:port
       proxyproto send [flags] unix:/path/of/socket
       proxyproto send -print [flags]

Send connects, sends a PROXY header, and then passes stdin to the server and what the server answers
to stdout, until both have ended. The header says that the connection comes from -source and went to
-destination; one that isn't given is what the connection has itself.

  printf 'GET / HTTP/1.0\r\n\r\n' | proxyproto send -source 192.0.2.7:56324 127.0.0.1:8080
  echo QUIT | proxyproto send -v1 -source 2001:db8::7 -destination 2001:db8::1 mail.example:25
  proxyproto send -local 127.0.0.1:8080 < /dev/null
  proxyproto send -tls -source 192.0.2.7 -authority www.example -crc32c www.example:443 < request
  proxyproto send -udp -source 192.0.2.7:5353 127.0.0.1:53 < query
  proxyproto send -print -source 192.0.2.7 -destination 192.0.2.1 -tlv 0xEA=01767063652d31 | proxyproto decode

The exit code is 5 if the connection can't be made or breaks, or if no answer comes to a
datagram, and 2 if the flags make no header.
`

// sendFlags are send's.
type sendFlags struct {
	header headerFlags

	udp, print          bool
	timeout, wait       time.Duration
	tls, insecure       bool
	serverName, address string
}

func send(args []string, stdin io.Reader, stdout, _ io.Writer) error {
	var f sendFlags
	fs := flag.NewFlagSet("send", flag.ContinueOnError)
	f.header.register(fs)
	fs.BoolVar(&f.udp, "udp", false, "send the header and all of stdin as one UDP datagram, and print one answer")
	fs.BoolVar(&f.print, "print", false, "print the header instead of sending it; it needs both addresses, -local or -unknown")
	fs.DurationVar(&f.timeout, "timeout", 10*time.Second, "how long connecting may take")
	fs.DurationVar(&f.wait, "wait", 3*time.Second, "how long to wait for an answer to a datagram; 0: don't")
	fs.BoolVar(&f.tls, "tls", false, "speak TLS behind the header")
	fs.StringVar(&f.serverName, "server-name", "", "the server's name for -tls (default: the host)")
	fs.BoolVar(&f.insecure, "insecure", false, "with -tls, take any certificate")
	if err := parseFlags(fs, args, stdout, sendUsage); err != nil {
		return err
	}
	f.address = fs.Arg(0)
	switch {
	case f.print && fs.NArg() > 0:
		return fmt.Errorf("-print doesn't connect: what is %q for?", f.address)
	case !f.print && fs.NArg() != 1:
		return errors.New("give one address to connect to, host:port, behind the flags")
	case f.udp && f.tls:
		return errors.New("there is no TLS in datagrams: -udp and -tls don't go together")
	case f.print:
		return f.printHeader(stdout)
	case f.udp:
		return f.sendDatagram(stdin, stdout)
	}
	return f.sendStream(stdin, stdout)
}

func (f *sendFlags) printHeader(stdout io.Writer) error {
	h, err := f.header.make(f.udp, nil, nil)
	if err != nil {
		return err
	}
	_, err = h.WriteTo(stdout)
	return err
}

// dial connects, and makes the header for that connection.
func (f *sendFlags) dial() (net.Conn, *proxyproto.Header, error) {
	network, address := "tcp", f.address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
		if f.udp {
			return nil, nil, errors.New("-udp goes to host:port")
		}
	} else if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, nil, fmt.Errorf("the address to connect to: %w", err)
	}
	if f.udp {
		network = "udp"
	}
	conn, err := net.DialTimeout(network, address, f.timeout)
	if err != nil {
		return nil, nil, networkError(err)
	}
	h, err := f.header.make(f.udp, conn.LocalAddr(), conn.RemoteAddr())
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, h, nil
}

func (f *sendFlags) sendStream(stdin io.Reader, stdout io.Writer) error {
	conn, h, err := f.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := h.WriteTo(conn); err != nil {
		return networkError(err)
	}
	if f.tls {
		if conn, err = f.startTLS(conn); err != nil {
			return networkError(err)
		}
	}
	go func() {
		// An error shows when reading: and if that ends well, the server wanted no more.
		_, _ = io.Copy(conn, stdin)
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}()
	if _, err := io.Copy(stdout, conn); err != nil {
		return networkError(err)
	}
	return nil
}

func (f *sendFlags) startTLS(conn net.Conn) (net.Conn, error) {
	name := f.serverName
	if name == "" {
		name, _, _ = net.SplitHostPort(f.address)
	}
	c := tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: f.insecure})
	ctx, cancel := context.WithTimeout(context.Background(), f.timeout)
	defer cancel()
	return c, c.HandshakeContext(ctx)
}

func (f *sendFlags) sendDatagram(stdin io.Reader, stdout io.Writer) error {
	payload, err := io.ReadAll(stdin)
	if err != nil {
		return err
	}
	conn, h, err := f.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	b, err := h.AppendTo(nil)
	if err != nil {
		return err
	}
	if _, err := conn.Write(append(b, payload...)); err != nil {
		return networkError(err)
	}
	if f.wait == 0 {
		return nil
	}
	if err := conn.SetReadDeadline(time.Now().Add(f.wait)); err != nil {
		return networkError(err)
	}
	answer := make([]byte, 1<<16)
	n, err := conn.Read(answer)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("no answer within %v", f.wait)
	}
	if err != nil {
		return networkError(err)
	}
	_, err = io.Copy(stdout, bytes.NewReader(answer[:n]))
	return err
}

// endpointOf returns a socket's address, the zero AddrPort if it has no IP.
func endpointOf(a net.Addr) netip.AddrPort {
	if ip, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		ap := ip.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
	}
	return netip.AddrPort{}
}
