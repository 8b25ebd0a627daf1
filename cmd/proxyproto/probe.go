package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// A probe is one connection of check: what it sends before the question, if it asks one.
type probe struct {
	name  string
	wire  wireFunc      // nil: nothing
	split bool          // in two segments
	late  time.Duration // after this time without a byte
	mute  bool          // no question follows
	limit time.Duration // how long to wait for the end of a mute one
}

// What a server did with a probe.
const (
	taken   = "taken"   // it answered the question
	refused = "refused" // it closed, or answered that it doesn't understand
	hangs   = "hangs"   // it did nothing
)

// probed is what came of a probe.
type probed struct {
	Probe   string  `json:"probe"`
	Outcome string  `json:"outcome"`
	How     string  `json:"how"`
	Seconds float64 `json:"seconds"` // until the answer, or the end of it all

	answer string // what the server said, for what it shows
	local  net.Addr
}

// dialogue is a connection to the server under check.
type dialogue struct {
	net.Conn
	r    *bufio.Reader
	head []byte // goes in front of the question, in its datagram
	err  error  // nobody is there after all
}

func (d *dialogue) Read(p []byte) (int, error) { return d.r.Read(p) }

// quiet waits without taking a byte. It returns nil if the server was silent all the time,
// errSpoke if it has said something, or why the connection ended.
func (d *dialogue) quiet(t time.Duration) error {
	if err := d.SetReadDeadline(time.Now().Add(t)); err != nil {
		return err
	}
	_, err := d.r.Peek(1)
	switch {
	case err == nil:
		return errSpoke
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	}
	return err
}

var errSpoke = errors.New("the server has spoken")

const (
	splitPause = 100 * time.Millisecond
	maxAnswer  = 64 << 10
)

// try makes the probe's connection. The error is that there is none.
func (c *checker) try(ctx context.Context, p probe) (*probed, error) {
	d, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	started := time.Now()
	r := &probed{Probe: p.name, local: d.LocalAddr()}
	r.Outcome, r.How, r.answer = c.talk(ctx, d, p)
	if d.err != nil {
		return nil, d.err
	}
	r.Seconds = time.Since(started).Round(10 * time.Millisecond).Seconds()
	if p.mute && r.Outcome == refused {
		r.How = fmt.Sprintf("%s after %.1f s", r.How, r.Seconds)
	}
	return r, ctx.Err()
}

// connect makes a connection, unless there were too many.
func (c *checker) connect(ctx context.Context) (*dialogue, error) {
	if c.report.Connections == maxProbes {
		return nil, fmt.Errorf("that would be more than %d connections", maxProbes)
	}
	c.report.Connections++
	network := "tcp"
	if c.report.Protocol == overUDP {
		network = "udp"
	}
	conn, err := connect(ctx, network, c.address, c.timeout)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	return &dialogue{Conn: conn, r: bufio.NewReader(conn)}, nil
}

// talk sends what the probe says, asks, and judges the answer.
func (c *checker) talk(ctx context.Context, d *dialogue, p probe) (outcome, how, answer string) {
	if p.late > 0 {
		if err := d.quiet(p.late); err != nil {
			outcome, how = ending(err)
			return outcome, how + " before the header", ""
		}
	}
	var wire []byte
	if p.wire != nil {
		var err error
		if wire, err = p.wire(c.header(d.RemoteAddr())); err != nil {
			return refused, err.Error(), ""
		}
	}
	if c.report.Protocol == overUDP {
		d.head = wire
		return c.askDNS(d)
	}
	if p.split {
		half := len(wire) / 2
		if _, err := d.Write(wire[:half]); err != nil {
			outcome, how = ending(err)
			return outcome, how, ""
		}
		wire = wire[half:]
		time.Sleep(splitPause)
	}
	if _, err := d.Write(wire); err != nil {
		outcome, how = ending(err)
		return outcome, how, ""
	}
	if p.mute {
		if err := d.quiet(p.limit); err != nil {
			outcome, how = ending(err)
			return outcome, how, ""
		}
		return hangs, fmt.Sprintf("nothing for %v", p.limit), ""
	}
	if err := d.SetDeadline(time.Now().Add(c.wait)); err != nil {
		return refused, err.Error(), ""
	}
	return c.protocols[c.report.Protocol](d)
}

// ending judges the error with which a connection ended.
func ending(err error) (outcome, how string) {
	switch {
	case err == errSpoke:
		return refused, "the server spoke"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return hangs, "nothing comes"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return refused, "closed"
	}
	return refused, "reset"
}

// A question asks something harmless in a protocol, and says whether the server understood it.
type question func(d *dialogue) (outcome, how, answer string)

// questions are those of the protocols by their flags' names.
func (c *checker) questions() map[string]question {
	return map[string]question{
		"http": c.askHTTP, "tls": c.askTLS, "smtp": askSMTP, "ssh": askSSH, "raw": askRaw,
		overUDP: c.askDNS,
	}
}

func (c *checker) askHTTP(d *dialogue) (outcome, how, answer string) {
	_, err := fmt.Fprintf(d, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: "+
		"proxyproto-check\r\nConnection: close\r\n\r\n", c.path, c.host)
	b, readErr := io.ReadAll(io.LimitReader(d, maxAnswer))
	if len(b) == 0 {
		if err == nil {
			err = readErr
		}
		if err == nil {
			err = io.EOF
		}
		outcome, how = ending(err)
		return outcome, how, ""
	}
	line, _, _ := strings.Cut(string(b), "\r\n")
	version, status, ok := strings.Cut(line, " ")
	if !ok || !strings.HasPrefix(version, "HTTP/") {
		return refused, "answers " + quote(b[:min(len(b), previewSize)]), string(b)
	}
	if strings.HasPrefix(status, fmt.Sprint(http.StatusBadRequest)) {
		return refused, "HTTP " + printable(status), string(b)
	}
	return taken, "HTTP " + printable(status), string(b)
}

func (c *checker) askTLS(d *dialogue) (outcome, how, answer string) {
	served := false
	conn := tls.Client(d, &tls.Config{
		ServerName: c.name, InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"},
		// The server's certificate is there: whatever it wants of ours, it speaks TLS.
		VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error { served = true; return nil },
	})
	err := conn.Handshake()
	if err == nil || served {
		return taken, "a TLS handshake", ""
	}
	var record tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.As(err, &record):
		return refused, "answers " + quote(record.RecordHeader[:]) + "..., not TLS", ""
	case errors.As(err, &alert):
		return refused, "TLS alert: " + alert.Error(), ""
	}
	outcome, how = ending(err)
	return outcome, how, ""
}

func askSMTP(d *dialogue) (outcome, how, answer string) {
	banner, err := reply(d)
	if err != nil {
		outcome, how = ending(err)
		return outcome, how, banner
	}
	if !strings.HasPrefix(banner, "220") {
		return refused, lastLine(banner), banner
	}
	if _, err := io.WriteString(d, "EHLO proxyproto-check.invalid\r\n"); err == nil {
		var hello string
		hello, err = reply(d)
		banner += hello
		if err == nil {
			io.WriteString(d, "QUIT\r\n")
			if strings.HasPrefix(hello, "250") {
				return taken, "SMTP 250", banner
			}
			return refused, lastLine(hello), banner
		}
	}
	outcome, how = ending(err)
	return outcome, how + " after the greeting", banner
}

// reply reads the lines of an SMTP reply.
func reply(d *dialogue) (string, error) {
	var s strings.Builder
	for s.Len() < maxAnswer {
		line, err := d.r.ReadSlice('\n')
		s.Write(line)
		if err != nil {
			return s.String(), err
		}
		if len(line) < 4 || line[3] != '-' {
			break
		}
	}
	return s.String(), nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return printable(strings.TrimSpace(lines[len(lines)-1]))
}

func askSSH(d *dialogue) (outcome, how, answer string) {
	banner, err := d.r.ReadSlice('\n')
	if err == nil {
		if !slices.Equal(banner[:min(4, len(banner))], []byte("SSH-")) {
			return refused, "answers " + quote(banner[:min(len(banner), previewSize)]), ""
		}
		if _, err = io.WriteString(d, "SSH-2.0-proxyproto_check\r\n"); err == nil {
			// A key exchange follows, in binary packets; or words that explain why not.
			var first []byte
			if first, err = d.r.Peek(1); err == nil {
				if first[0] != 0 {
					return refused, "an SSH protocol error", ""
				}
				return taken, "an SSH key exchange", ""
			}
		}
	}
	outcome, how = ending(err)
	return outcome, how, ""
}

func askRaw(d *dialogue) (outcome, how, answer string) {
	_, err := io.WriteString(d, "HELP\r\n")
	if err == nil {
		b := make([]byte, 1024)
		var n int
		if n, err = d.Read(b); n > 0 {
			return taken, "answers " + quote(b[:min(n, previewSize)]), string(b[:n])
		}
	}
	outcome, how = ending(err)
	return outcome, how, ""
}
