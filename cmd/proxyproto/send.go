package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed2e8fe8ee/proxyproto"
)

// sender is what send is to do.
type sender struct {
	header headerFlags

	udp, print, hex, crlf bool
	timeout, wait         time.Duration
	tls, insecure         bool
	serverName, address   string
	proxy                 string
}

func newSend() *cobra.Command {
	var s sender
	cmd := &cobra.Command{
		Use:   "send [host:port | unix:/path | http://host/path]",
		Short: "Connect, send a header, and then stdin or an HTTP request",
		Long: `Send connects, sends a PROXY header, and then passes stdin to the server and what the
server answers to stdout, until the server has ended. The header says that the connection comes from
--source and went to --destination; one that isn't given is what the connection has itself.

With an http or https URL it sends a GET request instead, and prints the response. With --proxy it
listens there as an HTTP proxy, and sends the header to each server that it is asked for. As an ssh
ProxyCommand it gives ssh a connection that begins with a header.

The exit code is 5 if the connection can't be made, breaks, or nothing comes within --wait, 6 if the
server closes without having sent a byte, and 2 if the flags make no header.`,
		Example: `  proxyproto send --source 192.0.2.7 http://127.0.0.1:8080/
  printf 'GET / HTTP/1.0\n\n' | proxyproto send --crlf --source 192.0.2.7:56324 127.0.0.1:8080
  echo QUIT | proxyproto send --crlf --v1 --source 2001:db8::7 --destination 2001:db8::1 mail.example:25
  proxyproto send --local 127.0.0.1:8080 </dev/null
  proxyproto send --source 192.0.2.7 --authority www.example --crc32c https://www.example/
  proxyproto send --udp --source 192.0.2.7:5353 127.0.0.1:53 <query
  proxyproto send --hex --source 192.0.2.7 --destination 192.0.2.1 --tlv 0xEA=01767063652d31
  ssh -o ProxyCommand='proxyproto send --source 192.0.2.7 %h:%p' host.example
  proxyproto send --proxy 127.0.0.1:3128 --source 192.0.2.7   # and curl -x 127.0.0.1:3128 ...`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.run(cmd, args)
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	s.header.register(fs)
	fs.BoolVar(&s.print, "print", false, "print the header instead of sending it; it needs both "+
		"addresses, --local or --unknown")
	fs.BoolVar(&s.hex, "hex", false, "likewise, in hexadecimal")
	fs.BoolVar(&s.crlf, "crlf", false, "end the lines of stdin in CRLF")
	fs.BoolVar(&s.udp, "udp", false, "send the header and all of stdin as one UDP datagram, and "+
		"print one answer")
	fs.BoolVar(&s.tls, "tls", false, "speak TLS after the header")
	fs.StringVar(&s.serverName, "server-name", "", "the server's `name` for TLS (default: the "+
		"host)")
	fs.BoolVar(&s.insecure, "insecure", false, "take any certificate")
	fs.DurationVar(&s.timeout, "timeout", 10*time.Second,
		"how long connecting may take, and TLS's handshake")
	fs.DurationVar(&s.wait, "wait", 10*time.Second,
		"how long to wait for an answer, or for more of it, once all is sent; 0: don't")
	fs.StringVar(&s.proxy, "proxy", "", "be an HTTP proxy at this `address`")
	return cmd
}

func (s *sender) run(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		s.address = args[0]
	}
	stdin, stdout := cmd.InOrStdin(), cmd.OutOrStdout()
	alone := s.print || s.hex
	url := strings.HasPrefix(s.address, "http://") || strings.HasPrefix(s.address, "https://")
	switch {
	case alone && s.proxy != "":
		return errors.New("--proxy sends headers: what are --print and --hex for?")
	case (alone || s.proxy != "") && len(args) > 0:
		return fmt.Errorf("--print, --hex and --proxy don't connect: what is %q for?", s.address)
	case !alone && s.proxy == "" && len(args) != 1:
		return errors.New("give one address to connect to, host:port or an http URL")
	case s.udp && (s.tls || url || s.proxy != ""):
		return errors.New("--udp is for datagrams, which have no TLS and no HTTP here")
	case s.timeout <= 0 || s.wait < 0:
		return errors.New("--timeout must be more than 0, and --wait not less")
	case alone:
		return s.printHeader(stdout)
	case s.proxy != "":
		return s.serveProxy(cmd.Context(), cmd.ErrOrStderr())
	case url:
		return s.sendHTTP(cmd.Context(), stdout)
	}
	if s.crlf {
		stdin = &crlfReader{in: stdin}
	}
	if s.udp {
		return s.sendDatagram(stdin, stdout)
	}
	return s.sendStream(stdin, stdout)
}

func (s *sender) printHeader(stdout io.Writer) error {
	h, err := s.header.make(s.udp, nil, nil)
	if err != nil {
		return err
	}
	b, err := h.AppendTo(nil)
	if err != nil {
		return err
	}
	if s.hex {
		b = dump(b)
	}
	_, err = stdout.Write(b)
	return err
}

// endpoint is what the address on the command line means.
func (s *sender) endpoint() (network, address string, err error) {
	network = "tcp"
	if s.udp {
		network = "udp"
	}
	if path, ok := strings.CutPrefix(s.address, "unix:"); ok {
		if s.udp {
			return "", "", errors.New("--udp goes to host:port")
		}
		return "unix", path, nil
	}
	if _, _, err := net.SplitHostPort(s.address); err != nil {
		return "", "", fmt.Errorf("the address to connect to: %w", err)
	}
	return network, s.address, nil
}

// dial connects, and makes the header for that connection.
func (s *sender) dial(ctx context.Context, network, address string) (net.Conn, *proxyproto.Header,
	error) {
	conn, err := connect(ctx, network, address, s.timeout)
	if err != nil {
		return nil, nil, err
	}
	h, err := s.header.make(s.udp, conn.LocalAddr(), conn.RemoteAddr())
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, h, nil
}

// open connects and sends the header.
func (s *sender) open(ctx context.Context, network, address string) (net.Conn, error) {
	conn, h, err := s.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if _, err := h.WriteTo(conn); err != nil {
		conn.Close()
		return nil, networkError(err)
	}
	return conn, nil
}

func (s *sender) sendStream(stdin io.Reader, stdout io.Writer) error {
	network, address, err := s.endpoint()
	if err != nil {
		return err
	}
	conn, err := s.open(context.Background(), network, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if s.tls {
		if conn, err = s.startTLS(conn); err != nil {
			return err
		}
	}
	var sent atomic.Bool
	wrote := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, stdin)
		if half, ok := conn.(interface{ CloseWrite() error }); ok && err == nil {
			err = half.CloseWrite()
		}
		wrote <- err
		sent.Store(true)
		_ = conn.SetReadDeadline(time.Now().Add(s.wait))
	}()
	b := make([]byte, 32<<10)
	for total := 0; ; {
		n, err := conn.Read(b)
		if _, err := stdout.Write(b[:n]); err != nil {
			return err
		}
		total += n
		if n > 0 && sent.Load() {
			_ = conn.SetReadDeadline(time.Now().Add(s.wait))
		}
		if err == io.EOF && wasReset(wrote) {
			err = syscall.ECONNRESET
		}
		if err != nil {
			return s.ended(err, total)
		}
	}
}

// wasReset reports whether the writer has been told of a reset. The system tells it once: the
// reader may see the plain end then.
func wasReset(wrote <-chan error) bool {
	select {
	case err := <-wrote:
		return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ENOTCONN)
	case <-time.After(resetTime):
		return false // what else the writer may see, the server didn't want
	}
}

// resetTime is how long a writer takes at most from the system's word to ours.
const resetTime = 50 * time.Millisecond

// ended says why the server's answer ended.
func (s *sender) ended(err error, total int) error {
	switch {
	case err == io.EOF && total > 0, s.wait == 0 && errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF) && total == 0:
		return &failure{exitEmpty, errors.New("empty reply: the server has closed the connection " +
			"without sending a byte")}
	case errors.Is(err, syscall.ECONNRESET):
		return networkError(fmt.Errorf("the server has reset the connection after %d bytes of "+
			"answer", total))
	case errors.Is(err, os.ErrDeadlineExceeded) && total == 0:
		return networkError(fmt.Errorf("no answer within %v: the server keeps the connection "+
			"open and says nothing", s.wait))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return networkError(fmt.Errorf("no more came for %v after %d bytes of answer", s.wait,
			total))
	}
	return networkError(err)
}

func (s *sender) startTLS(conn net.Conn) (net.Conn, error) {
	c := tls.Client(conn, s.tlsConfig(s.address))
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, tlsError(err, s.timeout)
	}
	return c, nil
}

func (s *sender) tlsConfig(address string) *tls.Config {
	name := s.serverName
	if name == "" {
		name, _, _ = net.SplitHostPort(address)
	}
	return &tls.Config{ServerName: name, InsecureSkipVerify: s.insecure}
}

func (s *sender) sendDatagram(stdin io.Reader, stdout io.Writer) error {
	network, address, err := s.endpoint()
	if err != nil {
		return err
	}
	payload, err := io.ReadAll(stdin)
	if err != nil {
		return err
	}
	conn, h, err := s.dial(context.Background(), network, address)
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
	if s.wait == 0 {
		return nil
	}
	if err := conn.SetReadDeadline(time.Now().Add(s.wait)); err != nil {
		return networkError(err)
	}
	answer := make([]byte, 1<<16)
	n, err := conn.Read(answer)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("no answer within %v", s.wait)
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

// crlfReader ends lines in CRLF, whether they had a CR or not.
type crlfReader struct {
	in   io.Reader
	rest []byte // is still to be returned
	cr   bool   // the last byte was one
}

func (r *crlfReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		b := make([]byte, 4096)
		n, err := r.in.Read(b)
		for _, c := range b[:n] {
			if c == '\n' && !r.cr {
				r.rest = append(r.rest, '\r')
			}
			r.rest = append(r.rest, c)
			r.cr = c == '\r'
		}
		if n == 0 {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
