package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed2e8fe8ee/proxyproto"
)

// maxProbes is how many connections a check makes at most, one after the other.
const maxProbes = 20

// checker is what check is to do, and what it has found.
type checker struct {
	address, host, name, path string
	source                    netip.Addr // claimed in headers
	timeout, wait, patience   time.Duration

	protocols map[string]question
	report    checkReport
	show      func(*probed) // a result, as soon as it is there
}

// checkReport is what check prints.
type checkReport struct {
	Address     string    `json:"address"`
	From        string    `json:"from"` // the address that we call from
	Protocol    string    `json:"protocol"`
	Policy      string    `json:"policy"`
	Verdict     string    `json:"verdict"` // in words
	Versions    []string  `json:"versions"`
	Believed    string    `json:"believed"` // yes, no or unknown: the header's source
	Connections int       `json:"connections"`
	Probes      []*probed `json:"probes"`
	Findings    []finding `json:"findings"`
	Unknown     []string  `json:"unknown"` // what can't be known
}

func newCheck() *cobra.Command {
	var c checker
	var asJSON bool
	var source string
	modes := map[string]*bool{}
	cmd := &cobra.Command{
		Use:   "check host:port",
		Short: "Find out what a server does with PROXY headers, and whether anybody can lie to it",
		Long: `Check makes up to 20 connections to a server, one after the other, and says for the address
that it calls from whether the server needs a PROXY header, takes one or none (then whoever calls
from there may be anybody), or takes none; which headers it takes; and what it does with those that
are split, late, wrong, said twice or without end, and with silence.

After each header it asks something harmless: an HTTP request, a TLS handshake, SMTP's EHLO, SSH's
version, or for other protocols the word HELP. If you don't say which it finds out. With --dns it
sends datagrams instead, each with a header and a DNS query. The headers claim to come from
--source. It sends a few hundred bytes on each connection, and waits at most --patience.

The exit code is 0 if the server needs a header and keeps the rules, 1 if it breaks one (to take one
or none breaks section 2), 3 if it takes no header, 4 if that can't be known, and 5 if it can't be
reached.`,
		Example: `  proxyproto check 127.0.0.1:8080
  proxyproto check --smtp mail.example:25
  proxyproto check --tls --host www.example 192.0.2.1:443
  proxyproto check --dns 192.0.2.1:53
  proxyproto check --json 127.0.0.1:8080 | jq -r '.verdict, .findings[].text'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.address = args[0]
			for name, chosen := range modes {
				switch {
				case !*chosen:
				case c.report.Protocol != "":
					return errors.New("one protocol at a time: " + c.report.Protocol + " or " +
						name)
				default:
					c.report.Protocol = name
				}
			}
			if err := c.prepare(source); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			out := cmd.OutOrStdout()
			c.show = func(r *probed) { r.print(out) }
			if asJSON {
				c.show = func(*probed) {}
			}
			if err := c.run(ctx); err != nil {
				return err
			}
			if !asJSON {
				c.report.print(out)
				return exit(c.report.code())
			}
			line, err := jsonLine(&c.report)
			if err != nil {
				return err
			}
			if _, err := out.Write(line); err != nil {
				return err
			}
			return exit(c.report.code())
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	c.protocols = c.questions()
	for _, m := range []struct{ name, about string }{
		{"http", "ask with an HTTP request"}, {"tls", "ask with a TLS handshake"}, {"smtp",
			"ask with SMTP's EHLO"},
		{"ssh", "ask with SSH's version"}, {"raw", "ask with the word HELP, or just see whether " +
			"it closes"},
		{overUDP, "ask over UDP with a DNS query; the header is in its datagram"},
	} {
		modes[m.name] = fs.Bool(m.name, false, m.about)
	}
	fs.StringVar(&c.host, "host", "", "the `name` in the HTTP request and the TLS handshake "+
		"(default: the host), and in the DNS query (default: the root)")
	fs.StringVar(&c.path, "path", "/", "the `path` in the HTTP request")
	fs.StringVar(&source, "source", "", "the client's `address` in the headers (default 192.0.2.7 "+
		"or 2001:db8::7, of nobody)")
	fs.DurationVar(&c.timeout, "timeout", 5*time.Second, "how long connecting may take")
	fs.DurationVar(&c.wait, "wait", 2*time.Second, "how long to wait for an answer")
	fs.DurationVar(&c.patience, "patience", 8*time.Second,
		"how long to wait for the end of a silent connection")
	fs.BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func (c *checker) prepare(source string) error {
	host, _, err := net.SplitHostPort(c.address)
	if err != nil {
		return fmt.Errorf("the address to check: %w", err)
	}
	if c.host == "" {
		c.host = c.address
		c.name = host
	} else {
		c.name = c.host
	}
	if strings.ContainsAny(c.host+c.path, " \r\n") || !strings.HasPrefix(c.path, "/") {
		return errors.New("--host and --path must fit into an HTTP request")
	}
	if c.timeout <= 0 || c.wait <= 0 || c.patience <= 0 {
		return errors.New("--timeout, --wait and --patience must be more than 0")
	}
	if source != "" {
		if c.source, err = netip.ParseAddr(source); err != nil {
			return fmt.Errorf("--source: %w", err)
		}
	}
	c.report.Address, c.report.Believed = c.address, "unknown"
	return nil
}

// header is what a proxy would send for a client of nobody's address.
func (c *checker) header(server net.Addr) *proxyproto.Header {
	to := endpointOf(server)
	h := &proxyproto.Header{
		Version: proxyproto.V2, Command: proxyproto.Proxy, Protocol: proxyproto.TCP4,
		Source: netip.AddrPortFrom(c.claimed(to.Addr()), claimedPort), Destination: to,
	}
	if !to.Addr().Is4() {
		h.Protocol = proxyproto.TCP6
	}
	if c.report.Protocol == overUDP {
		h.Protocol++
	}
	return h
}

const claimedPort = 4242

// claimed is the client's address in headers for a server.
func (c *checker) claimed(server netip.Addr) netip.Addr {
	switch {
	case c.source.IsValid():
		return c.source
	case server.Is4():
		return netip.AddrFrom4([4]byte{192, 0, 2, 7})
	}
	return netip.MustParseAddr("2001:db8::7")
}

// run makes the connections.
func (c *checker) run(ctx context.Context) error {
	if c.report.Protocol == "" {
		if err := c.detect(ctx); err != nil {
			return err
		}
	}
	for _, p := range c.basics() {
		if err := c.record(ctx, p); err != nil {
			return err
		}
	}
	if c.accepts("v1") || c.accepts("v2") {
		for _, p := range c.further() {
			if err := c.record(ctx, p); err != nil {
				return err
			}
		}
	}
	c.report.judge(c)
	return nil
}

// record makes a probe and notes its result.
func (c *checker) record(ctx context.Context, p probe) error {
	r, err := c.try(ctx, p)
	if err != nil {
		return err
	}
	if from, _, err := net.SplitHostPort(r.local.String()); err == nil {
		c.report.From = from
	}
	c.report.Probes = append(c.report.Probes, r)
	c.show(r)
	return nil
}

// outcome is what came of a probe, "" if it wasn't made.
func (c *checkReport) outcome(name string) string {
	if r := c.result(name); r != nil {
		return r.Outcome
	}
	return ""
}

func (c *checkReport) result(name string) *probed {
	i := slices.IndexFunc(c.Probes, func(r *probed) bool { return r.Probe == name })
	if i < 0 {
		return nil
	}
	return c.Probes[i]
}

// accepts reports whether the server went on after this probe. One of which nothing is known can
// keep silent then.
func (c *checker) accepts(name string) bool { return c.report.accepts(name) }

func (c *checkReport) accepts(name string) bool {
	o := c.outcome(name)
	return o == taken || o == hangs && c.Protocol == "raw"
}

// print prints a result as a line.
func (r *probed) print(w io.Writer) {
	outcome := r.Outcome
	if r.Probe == "silence" {
		outcome = map[string]string{refused: "ended", hangs: "open"}[outcome]
	}
	fmt.Fprintf(w, "%-34s %-8s %s (%.2f s)\n", names[r.Probe], outcome, r.How, r.Seconds)
}
