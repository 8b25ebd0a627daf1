package main

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

// event is what serve prints: always with a time and what has happened, and of the rest what
// there is to say.
type event struct {
	Time    time.Time `json:"time"`
	Event   string    `json:"event"` // listening, connection, datagram, dropped or done
	Address string    `json:"address,omitempty"`
	Peer    string    `json:"peer,omitempty"`
	Header  *header   `json:"header,omitempty"`
	Size    *int      `json:"size,omitempty"` // of a datagram's payload
	Reason  string    `json:"reason,omitempty"`
	Error   string    `json:"error,omitempty"`
	Bytes   string    `json:"bytes,omitempty"` // the first ones of what was dropped, in hex
	Stats   *stats    `json:"stats,omitempty"`

	text string // for people
}

// stats are proxyproto.Stats with keys in lower case.
type stats struct {
	Accepted uint64            `json:"accepted"`
	V1       uint64            `json:"v1"`
	V2       uint64            `json:"v2"`
	Local    uint64            `json:"local"`
	Bare     uint64            `json:"bare"`
	Ignored  uint64            `json:"ignored"`
	Skipped  uint64            `json:"skipped"`
	Probes   uint64            `json:"probes"`
	Dropped  map[string]uint64 `json:"dropped"` // by reason
}

func listening(a net.Addr) *event {
	return &event{Event: "listening", Address: a.String(), text: "listening on " + a.String() +
		"\n"}
}

func dropped(peer proxyproto.Peer, drop *proxyproto.DropError) *event {
	e := &event{
		Event: "dropped", Peer: peer.String(), Reason: drop.Reason.String(),
		Error: strings.TrimPrefix(drop.Err.Error(), "proxyproto: "),
		Bytes: hex.EncodeToString(drop.Bytes),
	}
	e.text = fmt.Sprintf("%s: dropped, %s: %s", e.Peer, e.Reason, e.Error)
	if e.Bytes != "" {
		e.text += ": " + quote(drop.Bytes)
	}
	if errors.Is(drop, proxyproto.ErrNoHeader) {
		if note := protocolNote(drop.Bytes); note != "" {
			e.text += ": " + note
		}
	}
	e.text += "\n"
	return e
}

// arrived is the event of a connection, or of a datagram of size bytes after its header; h is nil
// if there is no header.
func arrived(what, peer string, h *proxyproto.Header, size *int) *event {
	e := &event{Event: what, Peer: peer, Size: size, text: "no header"}
	if h != nil {
		e.Header = describeHeader(h)
		line := *h
		line.TLVs = nil // are listed one by one
		e.text = line.String()
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

// done is the summary.
func done(s proxyproto.Stats) *event {
	e := &event{Event: "done", Stats: &stats{
		Accepted: s.Accepted, V1: s.V1, V2: s.V2, Local: s.Local, Bare: s.Bare, Ignored: s.Ignored,
		Skipped: s.Skipped, Probes: s.Probes, Dropped: map[string]uint64{},
	}}
	var served, lost []string
	for _, c := range []struct {
		name string
		n    uint64
	}{
		{"v1", s.V1}, {"v2", s.V2}, {"local", s.Local}, {"bare", s.Bare}, {"ignored", s.Ignored},
		{"skipped", s.Skipped}, {"probes", s.Probes},
	} {
		if c.n > 0 {
			served = append(served, fmt.Sprintf("%d %s", c.n, c.name))
		}
	}
	for reason := proxyproto.ReasonRejected; reason <= proxyproto.ReasonLate; reason++ {
		if n := s.Dropped[reason]; n > 0 {
			e.Stats.Dropped[strings.ReplaceAll(reason.String(), " ", "_")] = n
			lost = append(lost, fmt.Sprintf("%d %s", n, reason))
		}
	}
	e.text = fmt.Sprintf("%d accepted", s.Accepted)
	if len(served) > 0 {
		e.text += ": " + strings.Join(served, ", ")
	}
	if len(lost) > 0 {
		e.text += "; dropped: " + strings.Join(lost, ", ")
	}
	e.text += "\n"
	return e
}

// encode returns the event as a line of JSON, or for people without its time.
func (e *event) encode(asJSON bool) []byte {
	if !asJSON {
		return []byte(e.text)
	}
	b, err := jsonLine(e)
	if err != nil {
		return []byte(err.Error() + "\n") // can't be: it has strings, numbers and a time
	}
	return b
}

// log prints events and counts them.
type log struct {
	out, errs io.Writer
	json      bool
	limit     int
	full      chan struct{} // closed when limit is reached

	mu sync.Mutex
	n  int
}

// print prints an event. It reports whether it was still wanted.
func (l *log) print(e *event) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	frame := e.Event == "listening" || e.Event == "done"
	if !frame && l.limit > 0 {
		if l.n == l.limit {
			return false
		}
		if l.n++; l.n == l.limit {
			close(l.full)
		}
	}
	e.Time = time.Now().Truncate(time.Millisecond)
	switch {
	case l.json:
		l.out.Write(e.encode(true))
	case frame:
		io.WriteString(l.errs, e.text)
	default:
		io.WriteString(l.out, e.Time.Format("15:04:05.000 ")+e.text)
	}
	return true
}
