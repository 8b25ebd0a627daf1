package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/seed2e8fe8ee/proxyproto/cmd/proxyproto/internal/pcap"
)

const decodeUsage = `Usage: proxyproto decode [flags] [file]

Decode explains the PROXY header that its input begins with, byte by byte, and says which rule is
broken if it isn't valid. The input is the file, or else stdin: the bytes as they came over the
network, the same in hexadecimal (-hex), or a packet capture (pcap or pcapng, as tcpdump and
Wireshark write them). Of a capture all TCP connections are shown from their first bytes on,
and those UDP datagrams that begin with a header.

  printf 'PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n' | proxyproto decode
  echo 0d0a0d0a 000d0a51 5549540a 20 00 0000 | proxyproto decode -hex
  tcpdump -i any -c 100 -w - port 8080 | proxyproto decode
  proxyproto decode -json capture.pcap | jq .header.source

The exit code is 0 if the header is valid (of a capture, all that there are), 1 if it is malformed,
3 if there is none, 4 if it is incomplete, and 2 if the input can't be read.
`

// maxInput is how much of the input is looked at: the longest header, and one more behind it.
const maxInput = 2 * (16 + 65535)

func decode(args []string, stdin io.Reader, stdout, _ io.Writer) error {
	fs := flag.NewFlagSet("decode", flag.ContinueOnError)
	asHex := fs.Bool("hex", false, "the input is hexadecimal; spaces, commas, colons, 0x and \\x don't count")
	asJSON := fs.Bool("json", false, "print a JSON object in one line, for each connection or datagram of a capture")
	if err := parseFlags(fs, args, stdout, decodeUsage); err != nil {
		return err
	}
	in := stdin
	switch fs.NArg() {
	case 0:
	case 1:
		f, err := os.Open(fs.Arg(0))
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	default:
		return fmt.Errorf("one file at a time, not %q (flags go before it)", fs.Args())
	}
	first := true
	print := func(r *report) error {
		if !first {
			fmt.Fprintln(stdout)
		}
		first = false
		return r.print(stdout)
	}
	if *asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetEscapeHTML(false)
		print = func(r *report) error { return enc.Encode(r) }
	}

	head := make([]byte, 4)
	n, err := io.ReadFull(in, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	in = io.MultiReader(bytes.NewReader(head[:n]), in)
	if !*asHex && pcap.Is(head[:n]) {
		return decodeCapture(in, print)
	}
	limit := int64(maxInput)
	if *asHex {
		limit *= 8 // each byte as "0x0d, " with room for more
	}
	b, err := io.ReadAll(io.LimitReader(in, limit))
	if err != nil {
		return err
	}
	if *asHex {
		if b, err = parseHex(string(b)); err != nil {
			return err
		}
	}
	if len(b) == 0 {
		return errors.New("there are no bytes to decode")
	}
	r := examine(b)
	if err := print(r); err != nil {
		return err
	}
	return exit(r.code())
}

// decodeCapture explains what the flows of a capture begin with.
func decodeCapture(in io.Reader, print func(*report) error) error {
	flows, flowsErr := pcap.Flows(in, maxInput)
	worst, shown := exitNoHeader, 0
	for _, f := range flows {
		r := examine(f.Payload)
		if !f.Opened && (r.Verdict == none || r.Verdict == incomplete && r.version == "") {
			continue // an answer, or from the middle of a connection
		}
		shown++
		r.Flow = &flow{f.Packet, f.Transport, f.Source.String(), f.Destination.String(), f.Opened, f.Cut}
		if err := print(r); err != nil {
			return err
		}
		worst = worse(worst, r.code())
	}
	switch {
	case flowsErr != nil:
		return flowsErr
	case shown == 0:
		return &failure{exitNoHeader, fmt.Errorf("no header in this capture of %d connections and datagrams with payload", len(flows))}
	}
	return exit(worst)
}

// worse returns the exit code that says more about a capture of connections with both.
func worse(a, b int) int {
	for _, code := range []int{exitMalformed, exitIncomplete, exitOK} {
		if a == code || b == code {
			return code
		}
	}
	return exitNoHeader
}

func exit(code int) error {
	if code == exitOK {
		return nil
	}
	return &failure{code: code}
}

// parseHex reads hexadecimal as people paste it.
func parseHex(s string) ([]byte, error) {
	var digits strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case strings.IndexByte(" \t\r\n,:;\"'{}", c) >= 0:
		case digits.Len()%2 == 0 && i+1 < len(s) && (c == '0' || c == '\\') && (s[i+1] == 'x' || s[i+1] == 'X'):
			i++
		case strings.IndexByte("0123456789abcdefABCDEF", c) >= 0:
			digits.WriteByte(c)
		default:
			return nil, fmt.Errorf("%q at byte %d of the input isn't hexadecimal", s[i:i+1], i)
		}
	}
	if digits.Len()%2 != 0 {
		return nil, fmt.Errorf("%d hexadecimal digits: one is missing or too many", digits.Len())
	}
	return hex.DecodeString(digits.String())
}
