package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/seed2e8fe8ee/proxyproto"
)

// header is a header for scripts.
type header struct {
	Version     int    `json:"version"`
	Command     string `json:"command"`
	Protocol    string `json:"protocol"`
	Source      string `json:"source,omitempty"`
	Destination string `json:"destination,omitempty"`
	TLVs        []tlv  `json:"tlvs,omitempty"`
}

func describeHeader(h *proxyproto.Header) *header {
	d := &header{
		Version: int(h.Version), Command: h.Command.String(), Protocol: protocolText(h.Protocol),
		TLVs: describeAll(h.TLVs),
	}
	if source, destination := h.SourceAddr(), h.DestinationAddr(); source != nil &&
		destination != nil {
		d.Source, d.Destination = source.String(), destination.String()
	}
	return d
}

// Verdicts.
const (
	valid      = "valid"
	malformed  = "malformed"
	incomplete = "incomplete"
	none       = "none"
)

// report is what there is to say about the first bytes of a connection.
type report struct {
	Flow    *flow   `json:"flow,omitempty"`
	Verdict string  `json:"verdict"`
	Length  int     `json:"length,omitempty"` // of the header in bytes, payload follows
	Header  *header `json:"header,omitempty"`
	Fault   *fault  `json:"fault,omitempty"`
	Missing int     `json:"missing,omitempty"` // bytes of an incomplete version 2 header
	Fields  []field `json:"fields,omitempty"`
	Payload string  `json:"payload,omitempty"` // its first bytes, in hex
	Note    string  `json:"note,omitempty"`

	summary string // the header in one line
	version string // of a header that isn't valid, if that much is known
}

// flow is where in a capture the bytes are.
type flow struct {
	Packet      int    `json:"packet"`
	Transport   string `json:"transport"`
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Opened      bool   `json:"opened,omitempty"` // the capture has the connection's beginning
	Cut         bool   `json:"cut,omitempty"`    // it lacks what follows
	Second      bool   `json:"second,omitempty"` // the connection has had a header before

	TCPOptions []tcpOption `json:"tcp_options,omitempty"` // that say who the client is
}

func (f *flow) String() string {
	s := fmt.Sprintf("packet %d, %s %s -> %s", f.Packet, f.Transport, f.Source, f.Destination)
	if f.Transport == "tcp" && !f.Opened {
		s += ", perhaps not from its beginning"
	}
	if f.Cut {
		s += ", what follows isn't in the capture"
	}
	if f.Second {
		s += ", another header after the first: it mustn't be believed"
	}
	return s
}

// fault is the rule that a malformed header breaks.
type fault struct {
	Offset int    `json:"offset"`
	Rule   string `json:"rule"`
}

const previewSize = 16

// examine says all there is to say about b.
func examine(b []byte) *report {
	r := &report{}
	h, n, err := proxyproto.Parse(b)
	var broken *proxyproto.FormatError
	switch {
	case err == nil:
		r.Verdict, r.Length, r.Header = valid, n, describeHeader(&h)
		r.Fields = dissect(b[:n])
		r.Payload = hex.EncodeToString(b[n:min(len(b), n+previewSize)])
		r.summary = h.String()
		r.Note = payloadNote(b[n:])
	case errors.As(err, &broken):
		r.Verdict, r.Fault = malformed, &fault{broken.Offset, broken.Rule}
		r.version = broken.Version.String()
		r.Fields = mark(dissect(b), b, r.Fault.Offset, r.Fault.Rule)
	case err == proxyproto.ErrIncomplete:
		r.Verdict, r.Fields = incomplete, dissect(b)
		if len(b) >= 16 && b[0] == '\r' {
			r.version, r.Missing = "v2", 16+int(b[14])<<8+int(b[15])-len(b)
		}
	default:
		r.Verdict, r.Payload, r.Note = none, hex.EncodeToString(b[:min(len(b), previewSize)]),
			protocolNote(b)
	}
	return r
}

// payloadNote warns of what follows a header and shouldn't.
func payloadNote(payload []byte) string {
	if _, _, err := proxyproto.Parse(payload); err == nil ||
		errors.Is(err, proxyproto.ErrMalformed) {
		return "the payload begins with another header: two proxies have sent one, or the client " +
			"has; it mustn't be believed"
	}
	return ""
}

// protocolNote guesses what bytes are that aren't a header.
func protocolNote(b []byte) string {
	word, _, _ := strings.Cut(string(b[:min(len(b), previewSize)]), " ")
	switch {
	case len(b) > 2 && b[0] == 0x16 && b[1] == 3:
		return "it looks like TLS: no proxy has sent a header, or it is inside TLS"
	case strings.HasPrefix(word, "SSH-"):
		return "it looks like SSH: no proxy has sent a header"
	case word == "GET" || word == "HEAD" || word == "POST" || word == "PUT" || word == "DELETE" ||
		word == "OPTIONS" || word == "CONNECT" || word == "PATCH" || word == "PRI":
		return "it looks like HTTP: no proxy has sent a header"
	case strings.EqualFold(word, "proxy"):
		return "the keyword is PROXY, in capitals"
	}
	for _, begins := range []string{signature, "PROXY TCP4 ", "PROXY TCP6 ", "PROXY UNKNOWN"} {
		if at := bytes.Index(b, []byte(begins)); at > 0 {
			return fmt.Sprintf("a header may begin at byte %d: give it without what is in front, "+
				"or if these are packets, as a capture file", at)
		}
	}
	return ""
}

// code is the exit code that the verdict asks for.
func (r *report) code() int {
	switch r.Verdict {
	case valid:
		return exitOK
	case malformed:
		return exitMalformed
	case incomplete:
		return exitIncomplete
	}
	return exitNoHeader
}

// print writes the report for people.
func (r *report) print(out io.Writer) error {
	w := bufio.NewWriter(out)
	if r.Flow != nil {
		fmt.Fprintln(w, r.Flow)
		for i := range r.Flow.TCPOptions {
			fmt.Fprintln(w, &r.Flow.TCPOptions[i])
		}
	}
	switch r.Verdict {
	case valid:
		fmt.Fprintf(w, "valid: %s\n", r.summary)
	case malformed:
		fmt.Fprintf(w, "malformed %s header: byte %d: %s\n", r.version, r.Fault.Offset,
			r.Fault.Rule)
	case incomplete:
		fmt.Fprint(w, "incomplete: the bytes end inside a header")
		if r.Missing > 0 {
			fmt.Fprintf(w, ", %d before its end", r.Missing)
		}
		fmt.Fprintln(w)
	case none:
		if r.Payload == "" {
			fmt.Fprintln(w, "no header: the client has sent nothing")
			break
		}
		fmt.Fprintf(w, "no header: the first bytes are %s\n", quoteHex(r.Payload))
	}
	if len(r.Fields) > 0 {
		fmt.Fprintln(w)
		for i := range r.Fields {
			r.Fields[i].print(w)
		}
		fmt.Fprintln(w)
	}
	if r.Verdict == valid {
		fmt.Fprintf(w, "%d bytes of header", r.Length)
		if r.Payload != "" {
			fmt.Fprintf(w, ", then %s", quoteHex(r.Payload))
		}
		fmt.Fprintln(w)
	}
	if r.Note != "" {
		fmt.Fprintln(w, "note: "+r.Note)
	}
	return w.Flush()
}

// columns is how wide the bytes of a field are shown.
const columns = 36

func (f *field) print(w io.Writer) {
	indent := strings.Repeat("  ", f.depth)
	text := f.Name
	if f.Text != "" && !f.plain {
		text += ": " + f.Text
	}
	shown := f.bytes(columns - len(indent))
	fmt.Fprintf(w, "%6d  %-*s  %s\n", f.Offset, columns, indent+shown, text)
	if f.Fault != "" {
		at := max(0, min(f.caret(), len(shown)-1))
		fmt.Fprintf(w, "%*s^ %s\n", 8+len(indent)+at, "", f.Fault)
	}
}

// caret returns the column of the byte at fault.
func (f *field) caret() int {
	if f.plain {
		b, _ := hex.DecodeString(f.Hex)
		return len(quote(b[:f.faultAt])) - 1
	}
	return 2 * f.faultAt // no TLV, in which there are spaces, is at fault behind its first byte
}

// bytes shows a field's bytes, in at most width characters.
func (f *field) bytes(width int) string {
	s := f.Hex
	switch {
	case f.plain:
		s = f.Text
	case f.tlv && f.size() >= 3:
		s = strings.TrimSpace(s[:2] + " " + s[2:6] + " " + s[6:])
	}
	if len(s) > width {
		more := len(f.Hex) / 2
		tail := "... (" + strconv.Itoa(more) + ")"
		s = s[:width-len(tail)] + tail
	}
	return s
}

func quoteHex(s string) string {
	b, _ := hex.DecodeString(s)
	return quote(b)
}
