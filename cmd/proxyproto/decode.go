package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/spf13/cobra"
)

// maxInput is how much of the input is looked at: the longest header, and one more after it.
const maxInput = 2 * (16 + 65535)

func newDecode() *cobra.Command {
	var asHex, asJSON bool
	cmd := &cobra.Command{
		Use:   "decode [file]",
		Short: "Explain a header byte by byte, from bytes or a packet capture",
		Long: `Decode explains the PROXY header that its input begins with, byte by byte, and says which
rule is broken if it isn't valid. The input is the file, or else stdin: the bytes as they came over
the network, the same in hexadecimal (--hex), or a packet capture (pcap or pcapng, as tcpdump and
Wireshark write them, also compressed with gzip).

Of a capture it shows what each TCP connection began with, as soon as its header is whole or broken,
and each new header of a flow of UDP datagrams. A TCP option of the handshake that says who the
client is, as some layer 4 balancers write instead of a header (TOA), is shown too. At the end, or
when it is interrupted, it shows the headers that aren't whole, and counts the rest: connections
that began before the capture, for one. Packets may have VLAN tags, IPv6 extension headers, and be
fragments.

The exit code is 0 if the header is valid (of a capture, all that there are), 1 if it is malformed,
3 if there is none, 4 if it is incomplete, and 2 if the input can't be read.`,
		Example: `  printf 'PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n' | proxyproto decode
  tcpdump -i any -U -w - port 8080 | proxyproto decode
  proxyproto decode --json capture.pcap | jq -r .header.source
  proxyproto decode --json capture.pcap | jq -r '.flow.tcp_options[]?.source'
  xxd header.bin | proxyproto decode --hex
  echo 0d0a0d0a 000d0a51 5549540a 20 00 0000 | proxyproto decode --hex`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := cmd.InOrStdin()
			if len(args) == 1 {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			print := printer(cmd.OutOrStdout(), asJSON)
			buffered, err := uncompressed(bufio.NewReader(in))
			if err != nil {
				return err
			}
			if asHex {
				return decodeHex(buffered, print)
			}
			next, err := openCapture(buffered)
			if err != nil {
				return err
			}
			if next != nil {
				return decodeCapture(cmd.Context(), next, print, cmd.ErrOrStderr())
			}
			b, err := io.ReadAll(io.LimitReader(buffered, maxInput))
			if err != nil {
				return err
			}
			return decodeBytes(b, print)
		},
	}
	cmd.Flags().BoolVar(&asHex, "hex", false,
		"the input is hexadecimal: digits with anything usual between them, or what xxd, hexdump "+
			"-C and Wireshark print")
	cmd.Flags().BoolVar(&asJSON, "json", false,
		"print a JSON object in one line, for each connection or flow of a capture")
	return cmd
}

// printer returns a function that prints reports, as JSON or with an empty line between them.
func printer(out io.Writer, asJSON bool) func(*report) error {
	if asJSON {
		return func(r *report) error {
			line, err := jsonLine(r)
			if err != nil {
				return err
			}
			_, err = out.Write(line)
			return err
		}
	}
	first := true
	return func(r *report) error {
		if !first {
			fmt.Fprintln(out)
		}
		first = false
		return r.print(out)
	}
}

func decodeHex(in io.Reader, print func(*report) error) error {
	const digits = 8 // for each byte: "0x0d, " with room for more
	text, err := io.ReadAll(io.LimitReader(in, maxInput*digits))
	if err != nil {
		return err
	}
	b, err := parseHex(string(text))
	if err != nil {
		return err
	}
	return decodeBytes(b, print)
}

func decodeBytes(b []byte, print func(*report) error) error {
	if len(b) == 0 {
		return errors.New("there are no bytes to decode")
	}
	r := examine(b)
	if err := print(r); err != nil {
		return err
	}
	return exit(r.code())
}

// A packet is what the goroutine that reads a capture passes on.
type packet struct {
	bytes []byte
	info  gopacket.CaptureInfo
	link  layers.LinkType
	err   error
}

// afterSignal is how long packets are still taken after an interrupt: tcpdump, which the terminal
// interrupts too, writes what it has and closes the pipe.
const afterSignal = 500 * time.Millisecond

// decodeCapture explains what the flows of a capture begin with, while it is read.
func decodeCapture(ctx context.Context, next packets, print func(*report) error,
	stderr io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	read := make(chan packet)
	ended := make(chan struct{})
	defer close(ended)
	go func() { // ends with the input, or with the program
		for {
			var p packet
			p.bytes, p.info, p.link, p.err = next()
			select {
			case read <- p:
			case <-ended:
				return
			}
			if p.err != nil {
				return
			}
		}
	}()

	f := newFlows(print)
	interrupted := ctx.Done()
	var enough <-chan time.Time
	var readErr error
	for reading := true; reading; {
		select {
		case p := <-read:
			if p.err != nil {
				readErr, reading = p.err, false
			} else if err := f.add(p.bytes, p.info, p.link); err != nil {
				return err
			}
		case <-interrupted:
			interrupted, enough = nil, time.After(afterSignal)
		case <-enough:
			reading = false
		}
	}
	if err := f.finish(); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "proxyproto decode: %s\n", f.summary())
	if readErr != nil && readErr != io.EOF {
		return captureError(f.now.number, readErr)
	}
	if f.shown == 0 {
		return &failure{exitNoHeader, errors.New("no header in this capture")}
	}
	return exit(f.worst)
}
