package migrate

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	armon "github.com/armon/go-proxyproto"
	"github.com/mastercactapus/proxyprotocol"
	pires "github.com/pires/go-proxyproto"

	"github.com/seed2e8fe8ee/proxyproto"
)

// A column is a library, set up for a header within five seconds.
type column struct {
	name   string
	listen func(inner net.Listener) net.Listener
}

const limit = 5 * time.Second

func piresWith(p pires.Policy) func(inner net.Listener) net.Listener {
	return piresPolicy(func(pires.ConnPolicyOptions) (pires.Policy, error) { return p, nil })
}

func piresPolicy(p pires.ConnPolicyFunc) func(inner net.Listener) net.Listener {
	return func(inner net.Listener) net.Listener {
		return &pires.Listener{Listener: inner, ConnPolicy: p, ReadHeaderTimeout: limit}
	}
}

func armonWith(check armon.SourceChecker) func(inner net.Listener) net.Listener {
	return func(inner net.Listener) net.Listener {
		return &armon.Listener{Listener: inner, ProxyHeaderTimeout: limit, UnknownOK: true, SourceCheck: check}
	}
}

func mastercactapusWith(filter []proxyprotocol.Rule) func(inner net.Listener) net.Listener {
	return func(inner net.Listener) net.Listener {
		ln := proxyprotocol.NewListener(inner, limit)
		ln.SetFilter(filter)
		return ln
	}
}

func oursWith(cfg proxyproto.Config) func(inner net.Listener) net.Listener {
	return func(inner net.Listener) net.Listener {
		cfg.HeaderTimeout = limit
		if cfg.Policy == nil {
			cfg.Policy = proxyproto.Always(proxyproto.Require)
		}
		ln, err := proxyproto.NewListener(inner, &cfg)
		if err != nil {
			panic(err)
		}
		return ln
	}
}

var columns = []column{
	{"pires, REQUIRE", piresWith(pires.REQUIRE)},
	{"pires, USE", piresWith(pires.USE)},
	{"armon", armonWith(nil)},
	{"mastercactapus", mastercactapusWith(nil)},
	{"ours, Require", oursWith(proxyproto.Config{})},
}

const (
	lineV1      = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
	signatureV2 = "\r\n\r\n\x00\r\nQUIT\n"
	addressesV2 = "\xc0\x00\x02\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb"
)

// What proxies send, and what they should better not.
var headers = []struct {
	what     string
	segments []string
}{
	{"version 1", []string{lineV1}},
	{"the same in two segments", []string{lineV1[:8], lineV1[8:]}},
	{"version 2", []string{signatureV2 + "\x21\x11\x00\x0c" + addressesV2}},
	{"with a TLV (NOOP)", []string{signatureV2 + "\x21\x11\x00\x10" + addressesV2 + "\x04\x00\x01\x00"}},
	{"with a certificate of 4 KB in a TLV", []string{signatureV2 + "\x21\x11\x10\x13" + addressesV2 + "\xe5\x10\x04" + strings.Repeat("x", 4100)}},
	{"with a CRC32C that is wrong", []string{signatureV2 + "\x21\x11\x00\x13" + addressesV2 + "\x03\x00\x04abcd"}},
	{"with a TLV that is cut off", []string{signatureV2 + "\x21\x11\x00\x10" + addressesV2 + "\x04\x00\x09\x00"}},
	{"LOCAL", []string{signatureV2 + "\x20\x00\x00\x00"}},
	{"LOCAL as AWS's health checks send it", []string{signatureV2 + "\x20\x11\x00\x54\x04\x00\x51" + strings.Repeat("\x00", 81)}},
	{"PROXY, UNSPEC", []string{signatureV2 + "\x21\x00\x00\x00"}},
	{"`PROXY UNKNOWN`", []string{"PROXY UNKNOWN\r\n"}},
	{"`PROXY UNKNOWN` with addresses", []string{"PROXY UNKNOWN 192.0.2.7 198.51.100.1 56324 443\r\n"}},
	{"`PROXY UNKNOWNX`", []string{"PROXY UNKNOWNX\r\n"}},
	{"version 1, port 99999", []string{strings.Replace(lineV1, "56324", "99999", 1)}},
	{"version 1, port 056324", []string{strings.Replace(lineV1, "56324", "056324", 1)}},
	{"version 1, ended by LF alone", []string{strings.Replace(lineV1, "\r\n", "\n", 1)}},
	{"an IPv4 client of an IPv6 address, as nginx writes it", []string{"PROXY TCP4 192.0.2.7 2001:db8::1 56324 443\r\n"}},
	{"two IPv4 addresses on a TCP6 line", []string{strings.Replace(lineV1, "TCP4", "TCP6", 1)}},
	{"no header", []string{"SSH-2.0-OpenSSH_9.2\r\n"}},
	{"two headers", []string{lineV1 + lineV1}},
}

// headerRows runs all of them.
func headerRows(t *testing.T) (rows [][]string) {
	rows = append(rows, []string{"sent"}, nil)
	for _, c := range columns {
		rows[0] = append(rows[0], c.name)
	}
	for _, h := range headers {
		row := []string{h.what}
		for _, c := range columns {
			row = append(row, inWorld(t, c.listen, func(w *world) string {
				sent := strings.Join(h.segments, "")
				w.send(proxyAddr, append([]string(nil), h.segments...)...)
				what := w.outcome(w.accept(), proxyAddr, sent)
				if h.what == "two headers" && what == "`"+clientAddr+"`, reads "+lineV1+payload {
					what = "client, second is payload"
				}
				return what
			}))
		}
		rows = append(rows, row)
	}
	return rows
}

const whileReading = "Read, when the deadline is cleared while it waits"

// Situations in time. Each is played with each library; ours with Lazy as well, for without it
// nobody gets a connection whose header isn't there.
var situations = []struct {
	what string
	play func(w *world) string
}{
	{"Accept returns", func(w *world) string {
		w.dialFrom(proxyAddr)
		return w.timed(func() string {
			if w.accept() == nil {
				return "not at all"
			}
			return ""
		})
	}},
	{"RemoteAddr returns", onSilent(func(w *world, c, _ net.Conn) string {
		return w.timed(func() string { c.RemoteAddr(); return "" })
	})},
	{"Write returns", onSilent(func(w *world, c, client net.Conn) string {
		w.drain(client)
		return w.timed(func() string { _, err := io.WriteString(c, "220 hello\r\n"); return failed(err) })
	})},
	{"Read returns", onSilent(func(w *world, c, _ net.Conn) string {
		return w.timedRead(c)
	})},
	{"Read, when a deadline in 30m is set", onSilent(func(w *world, c, _ net.Conn) string {
		c.SetReadDeadline(time.Now().Add(30 * time.Minute))
		return w.timedRead(c)
	})},
	{whileReading, onSilent(func(w *world, c, _ net.Conn) string {
		w.all.Go(func() {
			time.Sleep(time.Second)
			c.SetReadDeadline(time.Time{})
		})
		return w.timedRead(c)
	})},
	{"Read, when a deadline in 1s is set", onSilent(func(w *world, c, _ net.Conn) string {
		c.SetReadDeadline(time.Now().Add(time.Second))
		return w.timedRead(c)
	})},
	{"the next Read, with a new deadline, when the header has come in between", onSilent(func(w *world, c, client net.Conn) string {
		c.SetReadDeadline(time.Now().Add(time.Second))
		if w.timedRead(c) == forever {
			return "–"
		}
		c.SetReadDeadline(time.Now().Add(time.Minute))
		w.late(client, 0)
		return w.outcome(c, proxyAddr, lineV1)
	})},
	{"the header comes after 6s", onSilent(func(w *world, c, client net.Conn) string {
		w.late(client, limit+time.Second)
		return w.outcome(c, proxyAddr, lineV1)
	})},
	{"the header comes, but no payload: Read, when a deadline in 10s was set before", onSilent(func(w *world, c, client net.Conn) string {
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		w.all.Go(func() { io.WriteString(client, lineV1) })
		return w.timedRead(c)
	})},
	{"a version 1 line without an end is refused", func(w *world) string {
		client := w.dialFrom(proxyAddr)
		sent := make(chan string, 1)
		w.all.Go(func() {
			const most = 1 << 20
			n, piece := 0, "PROXY TCP4 "
			for ; n < most; n += len(piece) {
				if _, err := io.WriteString(client, piece); err != nil {
					sent <- fmt.Sprintf("within %d KB", 1+n>>10)
					return
				}
				piece = strings.Repeat("1", 512)
			}
			sent <- "not within 1 MB"
		})
		w.all.Go(func() {
			if c := w.accept(); c != nil {
				c.Read(make([]byte, 9))
				c.Close()
			}
		})
		return <-sent
	}},
	{"half-close (`CloseWrite`)", func(w *world) string {
		w.send(proxyAddr, lineV1)
		if _, ok := w.accept().(interface{ CloseWrite() error }); !ok {
			return "no"
		}
		return "yes"
	}},
}

func (w *world) timedRead(c net.Conn) string {
	return w.timed(func() string { _, err := c.Read(make([]byte, 9)); return failed(err) })
}

func failed(err error) string {
	if err != nil {
		return "error"
	}
	return ""
}

// late sends a header and the payload later.
func (w *world) late(client net.Conn, after time.Duration) {
	w.all.Go(func() {
		time.Sleep(after)
		io.WriteString(client, lineV1+payload)
		client.Close()
	})
}

// onSilent plays with a connection whose peer hasn't sent a byte, as soon as Accept returns it.
func onSilent(play func(w *world, c, client net.Conn) string) func(w *world) string {
	return func(w *world) string {
		client, start := w.dialFrom(proxyAddr), time.Now()
		synctest.Wait()
		if len(w.accepted) > 0 {
			return play(w, w.accept(), client)
		}
		closed := make(chan struct{})
		w.all.Go(func() {
			client.Read(make([]byte, 1))
			close(closed)
		})
		select {
		case <-closed:
			return fmt.Sprintf("closed after %v", time.Since(start))
		case c := <-w.accepted:
			w.ends = append(w.ends, c)
			return fmt.Sprintf("accepted after %v: %s", time.Since(start), play(w, c, client))
		}
	}
}

func situationRows(t *testing.T) (rows [][]string) {
	rows = append(rows, []string{"situation"}, nil)
	played := append(append([]column(nil), columns...),
		column{"ours, Lazy", oursWith(proxyproto.Config{Lazy: true})},
		column{"ours, Optional", oursWith(proxyproto.Config{Policy: proxyproto.Always(proxyproto.Optional)})},
		column{"ours, Ignore", oursWith(proxyproto.Config{Policy: proxyproto.Always(proxyproto.Ignore)})})
	for _, c := range played {
		rows[0] = append(rows[0], c.name)
	}
	for _, s := range situations {
		row := []string{s.what}
		for _, c := range played {
			if c.name == "mastercactapus" && s.what == whileReading {
				// Its SetReadDeadline writes what its Read reads: played, the race detector ends the test.
				row = append(row, "data race")
				continue
			}
			row = append(row, inWorld(t, c.listen, s.play))
		}
		rows = append(rows, row)
	}
	return rows
}
