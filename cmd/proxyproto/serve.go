package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

const serveUsage = `Usage: proxyproto serve [flags] [host:port]

Serve listens (by default on 127.0.0.1:8080, and port 0 is any free one) and prints what each
connection brings: the peer, its header with all TLVs, or why it was dropped. It answers HTTP requests
with the same, or with -echo whatever comes with itself. It ends when it is interrupted, or after
-n connections, and tells what it has counted.

Headers are believed from the addresses in -trust alone; others are dropped, and it says so.

  proxyproto serve                                       and "curl --haproxy-protocol http://127.0.0.1:8080"
  proxyproto serve -trust 10.0.0.0/8,192.0.2.1 :8080     behind a load balancer
  proxyproto serve -trust 10.0.0.0/8 -optional :8080     does it send headers yet?
  proxyproto serve -echo -n 1 -json | jq .header         what does the next one bring?
  proxyproto serve -udp 127.0.0.1:5353                   a header in each datagram, echoed without it

The exit code is 5 if it can't listen, and 2 if the flags make no sense.
`

// serveFlags are serve's.
type serveFlags struct {
	address                  string
	trust                    prefixes
	optional, ignore, direct bool
	versions                 string
	timeout                  time.Duration
	maxSize                  int
	udp, echo, json          bool
	n                        int
}

// prefixes is a flag that takes a list, and can be repeated.
type prefixes []string

func (p *prefixes) String() string { return strings.Join(*p, ",") }

func (p *prefixes) Set(s string) error {
	*p = append(*p, strings.Split(s, ",")...)
	return nil
}

func serve(args []string, _ io.Reader, stdout, stderr io.Writer) error {
	f := serveFlags{address: "127.0.0.1:8080"}
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	fs.Var(&f.trust, "trust", "believe headers from these `addresses` and ranges, separated by commas; can be repeated (default 127.0.0.0/8,::1)")
	fs.BoolVar(&f.optional, "optional", false, "serve trusted peers without a header, too")
	fs.BoolVar(&f.ignore, "ignore", false, "like -optional, but don't believe the headers")
	fs.BoolVar(&f.direct, "direct", false, "serve the others as they are, without looking for a header")
	fs.StringVar(&f.versions, "versions", "1,2", "accept these `versions`")
	fs.DurationVar(&f.timeout, "timeout", 5*time.Second, "how long a header may take")
	fs.IntVar(&f.maxSize, "max-size", 4096, "how many `bytes` a header may have")
	fs.BoolVar(&f.udp, "udp", false, "serve UDP: a header in each datagram, whose payload is echoed")
	fs.BoolVar(&f.echo, "echo", false, "answer with what comes, instead of HTTP")
	fs.BoolVar(&f.json, "json", false, "print a JSON object in one line for each event, and answer HTTP with one")
	fs.IntVar(&f.n, "n", 0, "end after so many connections, served or dropped (0: don't)")
	if err := parseFlags(fs, args, stdout, serveUsage); err != nil {
		return err
	}
	switch fs.NArg() {
	case 0:
	case 1:
		f.address = fs.Arg(0)
	default:
		return fmt.Errorf("listen on one address, not on %q (flags go before it)", fs.Args())
	}
	cfg, err := f.config()
	if err != nil {
		return err
	}
	s := &server{out: stdout, errs: stderr, json: f.json, limit: f.n, full: make(chan struct{})}
	cfg.OnDrop = func(peer netip.AddrPort, err error) { s.print(dropped(peer, err)) }

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if f.udp {
		return s.datagrams(ctx, f.address, cfg)
	}
	return s.streams(ctx, f.address, cfg, f.echo)
}

func (f *serveFlags) config() (*proxyproto.Config, error) {
	if len(f.trust) == 0 {
		f.trust = prefixes{"127.0.0.0/8", "::1"}
	}
	trust, err := proxyproto.ParseTrust(f.trust...)
	if err != nil {
		return nil, err
	}
	if f.optional && f.ignore {
		return nil, errors.New("-optional and -ignore don't go together")
	}
	if f.udp && f.echo {
		return nil, errors.New("-udp echoes anyway: leave out -echo")
	}
	if f.n < 0 {
		return nil, errors.New("-n is negative")
	}
	trusted, others := proxyproto.Require, proxyproto.Reject
	switch {
	case f.optional:
		trusted = proxyproto.Optional
	case f.ignore:
		trusted = proxyproto.Ignore
	}
	if f.direct {
		others = proxyproto.Skip
	}
	cfg := &proxyproto.Config{
		Policy: func(peer, local netip.AddrPort) proxyproto.Action {
			if trust(peer, local) == proxyproto.Require {
				return trusted
			}
			return others
		},
		HeaderTimeout: f.timeout,
		MaxHeaderSize: f.maxSize,
	}
	for _, v := range strings.Split(f.versions, ",") {
		switch strings.TrimPrefix(v, "v") {
		case "1":
			cfg.Versions = append(cfg.Versions, proxyproto.V1)
		case "2":
			cfg.Versions = append(cfg.Versions, proxyproto.V2)
		default:
			return nil, fmt.Errorf("-versions has %q: there are 1 and 2", v)
		}
	}
	return cfg, nil
}

// event is what serve prints.
type event struct {
	Event   string            `json:"event"` // listening, connection, datagram, dropped or done
	Address string            `json:"address,omitempty"`
	Peer    string            `json:"peer,omitempty"`
	Header  *header           `json:"header,omitempty"`
	Size    *int              `json:"size,omitempty"` // of a datagram's payload
	Reason  string            `json:"reason,omitempty"`
	Error   string            `json:"error,omitempty"`
	Stats   map[string]uint64 `json:"stats,omitempty"`

	text string // for people
}

func dropped(peer netip.AddrPort, err error) *event {
	e := &event{Event: "dropped", Peer: peer.String(), Error: err.Error()}
	var drop *proxyproto.DropError
	if errors.As(err, &drop) {
		e.Reason = drop.Reason.String()
	}
	e.text = fmt.Sprintf("%s: dropped, %s: %s\n", e.Peer, e.Reason, strings.TrimPrefix(e.Error, "proxyproto: "))
	return e
}

// arrived is the event of a connection, or of a datagram of size bytes behind its header. h has
// Version 0 if there is no header.
func arrived(what string, peer net.Addr, h proxyproto.Header, size *int) *event {
	e := &event{Event: what, Peer: peer.String(), Size: size}
	e.text = "no header"
	if h.Version != 0 {
		e.Header = describeHeader(&h)
		h.TLVs = nil // are listed one by one
		e.text = h.String()
	}
	if size != nil {
		e.text += fmt.Sprintf(", %d bytes", *size)
	}
	e.text = e.Peer + ": " + e.text + "\n"
	if e.Header != nil {
		e.text += tlvLines(e.Header.TLVs, "    ")
	}
	return e
}

func tlvLines(tlvs []tlv, indent string) string {
	var s strings.Builder
	for _, t := range tlvs {
		fmt.Fprintf(&s, "%s%s: %s\n", indent, t.Name, cmp.Or(t.words(), t.Hex))
		if t.SSL != nil {
			s.WriteString(tlvLines(t.SSL.TLVs, indent+"    "))
		}
	}
	return s.String()
}

// server prints events and counts them.
type server struct {
	out, errs io.Writer
	json      bool
	limit     int
	full      chan struct{} // closed when limit is reached

	mu sync.Mutex
	n  int
}

// print prints an event. It reports whether it was still wanted.
func (s *server) print(e *event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := e.Event != "listening" && e.Event != "done"
	if counts && s.limit > 0 {
		if s.n == s.limit {
			return false
		}
		if s.n++; s.n == s.limit {
			close(s.full)
		}
	}
	s.write(e)
	return true
}

func (s *server) write(e *event) {
	switch {
	case s.json:
		s.out.Write(e.encode(true))
	case e.Event == "listening" || e.Event == "done":
		fmt.Fprint(s.errs, e.text)
	default:
		fmt.Fprint(s.out, e.text)
	}
}

// encode returns the event as a line of JSON, or for people.
func (e *event) encode(asJSON bool) []byte {
	if !asJSON {
		return []byte(e.text)
	}
	b, err := json.Marshal(e)
	if err != nil {
		return []byte(err.Error() + "\n") // can't be: it has strings and numbers only
	}
	return append(b, '\n')
}

func (s *server) listening(a net.Addr) {
	s.print(&event{Event: "listening", Address: a.String(), text: "listening on " + a.String() + "\n"})
}

func (s *server) done(stats proxyproto.Stats) {
	counts := map[string]uint64{"accepted": stats.Accepted}
	var served, lost []string
	for _, c := range []struct {
		name string
		n    uint64
	}{
		{"v1", stats.V1}, {"v2", stats.V2}, {"local", stats.Local}, {"bare", stats.Bare},
		{"ignored", stats.Ignored}, {"skipped", stats.Skipped}, {"probes", stats.Probes},
	} {
		if c.n > 0 {
			counts[c.name] = c.n
			served = append(served, fmt.Sprintf("%d %s", c.n, c.name))
		}
	}
	for reason, n := range stats.Drops() {
		if n > 0 {
			counts["dropped "+reason.String()] = n
			lost = append(lost, fmt.Sprintf("%d %s", n, reason))
		}
	}
	text := fmt.Sprintf("%d accepted", stats.Accepted)
	if len(served) > 0 {
		text += ": " + strings.Join(served, ", ")
	}
	if len(lost) > 0 {
		text += "; dropped: " + strings.Join(lost, ", ")
	}
	s.print(&event{Event: "done", Stats: counts, text: text + "\n"})
}
