package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

const sig = "0d0a0d0a000d0a515549540a"

// samples are the beginnings of connections, in hexadecimal or as text. Their explanations are in
// testdata/decode.
var samples = []struct{ name, hex, text string }{
	{name: "v1-tcp4", text: "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\nGET / HTTP/1.1\r\nHost: " +
		"www.example\r\n\r\n"},
	{name: "v1-tcp6", text: "PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n"},
	{name: "v1-mapped", text: "PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 56324 443\r\n"},
	{name: "v1-unknown", text: "PROXY UNKNOWN\r\n"},
	{name: "v1-unknown-rest", text: "PROXY UNKNOWN ffff::1 \x1b[2J anything\r\n"},
	{name: "v1-twice", text: "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\nPROXY TCP4 10.0.0.1 " +
		"10.0.0.2 1 2\r\n"},
	{name: "v1-twice-malformed", text: "PROXY UNKNOWN\r\nPROXY TCP4 10.0.0.1 10.0.0.2 1\r\n"},
	{name: "v1-leading-zero", text: "PROXY TCP4 192.0.2.07 198.51.100.1 56324 443\r\n"},
	{name: "v1-two-spaces", text: "PROXY TCP4  192.0.2.7 198.51.100.1 56324 443\r\n"},
	{name: "v1-port", text: "PROXY TCP4 192.0.2.7 198.51.100.1 56324 65536\r\n"},
	{name: "v1-line-feed", text: "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\n"},
	{name: "v1-extra", text: "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443 tls\r\n"},
	{name: "v1-too-long", text: "PROXY UNKNOWN " + strings.Repeat("x", 200)},
	{name: "v1-protocol", text: "PROXY UDP4 192.0.2.7 198.51.100.1 56324 443\r\n"},
	{name: "v1-incomplete", text: "PROXY TCP4 192.0.2.7 198.5"},
	{name: "v1-lower-case", text: "proxy TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"},

	{name: "v2-tcp4", hex: sig + "2111 000c c0000207 c6336401 dc04 01bb 474554"},
	{name: "v2-udp4", hex: sig + "2112 000c c0000207 c6336401 dc04 01bb"},
	{name: "v2-tcp6", hex: sig + "2121 0024 20010db8000000000000000000000007 " +
		"20010db8000000000000000000000001 dc04 01bb"},
	{name: "v2-udp6-mapped", hex: sig + "2122 0024 00000000000000000000ffffc0000207 " +
		"00000000000000000000ffffc6336401 dc04 01bb"},
	{name: "v2-unix", hex: sig + "2131 00d8" + unixName("/run/client.sock") +
		unixName("\x00abstract")},
	{name: "v2-unix-datagram-unnamed", hex: sig + "2132 00db" + unixName("") +
		unixName("/run/server") + "040000"},
	{name: "v2-unix-escape", hex: sig + "2131 00d8" + unixName("/run/\x1b[2J") +
		unixName("\x00\n")},
	{name: "v2-unspec", hex: sig + "2100 0000"},
	{name: "v2-unspec-inet", hex: sig + "2110 0004 01020304"},
	{name: "v2-local", hex: sig + "2000 0000"},
	{name: "v2-local-haproxy", hex: sig + "2000 0007 030004a9b87e8f"},
	{name: "v2-local-aws", hex: sig + "2011 0054 030004 cd6bbb4e 04004a" + strings.Repeat("00",
		74)},
	{
		name: "v2-haproxy", hex: sig + "2111 0078 7f000001 7f000001 b390 4719 0300047739132c " +
			"010002683202000b7777772e6578616d706c65 05000d37463030303030313a42333930 20003f0100000000" +
			"210007544c5376312e33 25000752534132303438 24000a5253412d534841323536" +
			"230016544c535f4145535f3235365f47434d5f534841333834",
	},
	{name: "v2-ssl-verified", hex: sig + "2111 0026 c0000207 c6336401 dc04 01bb 200017 07 " +
		"00000000 220006 636c69656e74 280002 3000 260001 78"},
	{name: "v2-ssl-self-signed", hex: sig + "2111 0014 c0000207 c6336401 dc04 01bb 200005 07 " +
		"00000012"},
	{name: "v2-ssl-nested", hex: sig + "2111 001c c0000207 c6336401 dc04 01bb 20000d 07 00000000 " +
		"200005 07 00000000"},
	{name: "v2-ssl-no-tls", hex: sig + "2111 001c c0000207 c6336401 dc04 01bb 200005 00 00000000 " +
		"200005 f8 01000000"},
	{
		name: "v2-clouds", hex: sig + "2111 005a c0000207 c6336401 dc04 01bb ea000701767063652d31" +
			"e000080123456789abcdef ee000501c0450020 e1000401767063 e10003026570 e10006036570737276" +
			"ea00020100 e00001ff f10000 ff000178 300004626c7565 07000161",
	},
	{name: "v2-binary-values", hex: sig + "2111 0018 c0000207 c6336401 dc04 01bb 050003 00ff80 " +
		"020003 0a1b5b"},

	{name: "v2-version", hex: sig + "11"},
	{name: "v2-command", hex: sig + "2f11 0000"},
	{name: "v2-family", hex: sig + "2141 0000"},
	{name: "v2-transport", hex: sig + "2113 0000"},
	{name: "v2-length", hex: sig + "2111 000b c0000207 c6336401 dc04 01"},
	{name: "v2-tlv-head", hex: sig + "2111 000e c0000207 c6336401 dc04 01bb 0100"},
	{name: "v2-tlv-long", hex: sig + "2111 0016 c0000207 c6336401 dc04 01bb 0100026832 02000378 " +
		"00"},
	{name: "v2-tlv-none-left", hex: sig + "2111 000d c0000207 c6336401 dc04 01bb"},
	{name: "v2-crc", hex: sig + "2111 0018 c0000207 c6336401 dc04 01bb 030004 deadbeef 0100026832"},
	{name: "v2-crc-length", hex: sig + "2111 0012 c0000207 c6336401 dc04 01bb 030003 000000"},
	{name: "v2-crc-twice", hex: sig + "2111 001a c0000207 c6336401 dc04 01bb 030004 00000000 " +
		"030004 00000000"},
	{name: "v2-unique-id", hex: sig + "2111 0090 c0000207 c6336401 dc04 01bb 050081" +
		strings.Repeat("78", 129)},
	{name: "v2-ssl-short", hex: sig + "2111 0013 c0000207 c6336401 dc04 01bb 200004 01 000000"},
	{name: "v2-ssl-inside", hex: sig + "2111 001e c0000207 c6336401 dc04 01bb 20000a 01 00000000 " +
		"210007544c 0100026832"},
	{name: "v2-incomplete", hex: sig + "2111 0011 c0000207 c6336401 dc04 01bb 010002 68"},
	{name: "v2-incomplete-ssl", hex: sig + "2111 0026 c0000207 c6336401 dc04 01bb 200017 07 " +
		"00000000 220006 636c"},
	{name: "v2-incomplete-addresses", hex: sig + "2111 000c c0000207 c63364"},
	{name: "v2-incomplete-start", hex: sig},

	{name: "http", text: "GET / HTTP/1.1\r\nHost: www.example\r\n\r\n"},
	{name: "tls", hex: "16030100c8010000c40303"},
	{name: "ssh", text: "SSH-2.0-OpenSSH_9.2\r\n"},
	{name: "noise", hex: "00ff1b5b324a"},
}

func unixName(s string) string {
	b := make([]byte, 108)
	copy(b, s)
	return hex.EncodeToString(b)
}

func sampleBytes(t testing.TB, i int) []byte {
	t.Helper()
	if samples[i].text != "" {
		return []byte(samples[i].text)
	}
	b, err := hex.DecodeString(strings.ReplaceAll(samples[i].hex, " ", ""))
	require.NoError(t, err)
	return b
}

// TestDecode runs the command on each sample, and compares what it prints. The exit code and the
// JSON are held against Parse itself.
func TestDecode(t *testing.T) {
	for i, c := range samples {
		t.Run(c.name, func(t *testing.T) {
			b := sampleBytes(t, i)
			var r result
			if c.text != "" {
				r = inProcess(c.text, "decode")
			} else {
				r = inProcess(c.hex, "decode", "--hex")
				assert.Equal(t, r, inProcess(string(b), "decode"))
			}
			assert.Empty(t, r.stderr)
			golden(t, "decode/"+c.name+".golden", fmt.Sprintf("%sexit code %d\n", r.stdout, r.code))
			for _, line := range strings.Split(r.stdout, "\n") {
				assert.Equal(t, line, printable(line), "a terminal could obey this")
			}

			h, n, err := proxyproto.Parse(b)
			var got report
			j := inProcess(string(b), "decode", "--json")
			assert.Equal(t, r.code, j.code)
			assert.Equal(t, 1, strings.Count(j.stdout, "\n"))
			require.NoError(t, json.Unmarshal([]byte(j.stdout), &got))
			var broken *proxyproto.FormatError
			switch {
			case err == nil:
				assert.Equal(t, exitOK, r.code)
				assert.Equal(t, valid, got.Verdict)
				assert.Equal(t, n, got.Length)
				assert.Equal(t, describeHeader(&h), got.Header)
				assert.Nil(t, got.Fault)
				for _, t1 := range got.Header.TLVs {
					if t1.SSL != nil {
						for _, t2 := range t1.SSL.TLVs {
							assert.Nil(t, t2.SSL, "TLVs have two levels")
						}
					}
				}
			case errors.As(err, &broken):
				assert.Equal(t, exitMalformed, r.code)
				assert.Equal(t, malformed, got.Verdict)
				require.NotNil(t, got.Fault)
				assert.Equal(t, fault{broken.Offset, broken.Rule}, *got.Fault)
			case errors.Is(err, proxyproto.ErrIncomplete):
				assert.Equal(t, exitIncomplete, r.code)
				assert.Equal(t, incomplete, got.Verdict)
			default:
				assert.Equal(t, exitNoHeader, r.code)
				assert.Equal(t, none, got.Verdict)
			}
		})
	}
}

// checkFields holds the fields of a header against its bytes.
func checkFields(t *testing.T, b []byte, r *report) {
	t.Helper()
	end, faults := 0, 0
	for _, f := range r.Fields {
		field, err := hex.DecodeString(f.Hex)
		require.NoError(t, err)
		if f.Fault != "" {
			faults++
			require.NotNil(t, r.Fault)
			assert.Equal(t, r.Fault.Rule, f.Fault)
			assert.GreaterOrEqual(t, r.Fault.Offset, f.Offset)
			assert.LessOrEqual(t, r.Fault.Offset, f.Offset+max(0, len(field)-1))
		}
		if f.Name == "missing" {
			continue
		}
		require.GreaterOrEqual(t, f.Offset, end)
		require.LessOrEqual(t, f.Offset+len(field), len(b))
		assert.Equal(t, b[f.Offset:f.Offset+len(field)], field)
		assert.Empty(t, bytes.Trim(b[end:f.Offset], " "), "left out before %d", f.Offset)
		end = f.Offset + len(field)
	}
	switch r.Verdict {
	case valid:
		assert.Equal(t, r.Length, end)
		assert.Zero(t, faults)
	case malformed:
		assert.Equal(t, 1, faults)
	case incomplete:
		assert.Empty(t, bytes.Trim(b[end:], " "))
	}
}

// TestFields: of every sample, and of every beginning of one, the fields have all bytes and the
// fault stands where Parse says.
func TestFields(t *testing.T) {
	for i := range samples {
		b := sampleBytes(t, i)
		for n := 1; n <= len(b); n++ {
			checkFields(t, b[:n], examine(b[:n]))
		}
	}
}

func FuzzFields(f *testing.F) {
	for i := range samples {
		f.Add(sampleBytes(f, i))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || len(b) > 4096 {
			return
		}
		r := examine(b)
		checkFields(t, b, r)
		var out bytes.Buffer
		require.NoError(t, r.print(&out))
		for _, line := range strings.Split(out.String(), "\n") {
			assert.Equal(t, printable(line), line)
		}
	})
}

func TestParseHex(t *testing.T) {
	want := "\x0d\x0a\xab\x01"
	for _, s := range []string{
		"0d0aab01", "0D0AAB01", "0d 0a\nab 01\r\n", "0d:0a:ab:01", "0x0d, 0x0a, 0xAB, 0x01",
		`\x0d\x0a\xab\x01`,
		"0x0d0aab01", "{0x0D,0x0A,0xAB,0X01};", `"\x0d\x0a" "\xab\x01"`,
		"unsigned char h[] = {\n  0x0d, 0x0a, 0xab, 0x01\n};\nunsigned int h_len = 4;\n",
		"/* Packet (4 bytes) */\nstatic const unsigned char pkt1[4] = {\n0x0d, 0x0a, 0xab, 0x01 /* " +
			".... */\n};\n",
		"00000000: 0d0a ab01                                ....\n",
		"00000000: 0d0a ab  ...\n00000003: 01  .\n",
		"00000000  0d 0a ab 01                                       |....|\n00000004\n",
		"0000   0d 0a ab 01                                       ....\n",
		"0000  0d 0a ab 01   ab 0d\r\n",
	} {
		got, err := parseHex(s)
		assert.NoError(t, err, s)
		assert.Equal(t, want, string(got), s)
	}
}

// TestParseDump: what the programs print of a header that repeats itself, without their gaps and
// stars being taken for it.
func TestParseDump(t *testing.T) {
	want := append([]byte(signature+"\x21\x31\x00\xd8"), make([]byte, 216)...)
	for _, args := range [][]string{{"xxd"}, {"xxd", "-p"}, {"xxd", "-i"},
		{"xxd", "-g1", "-c", "12"}, {"hexdump", "-C"}} {
		dumper, err := exec.LookPath(args[0])
		if err != nil {
			missing(t, args[0])
			continue
		}
		cmd := exec.Command(dumper, args[1:]...)
		cmd.Stdin = bytes.NewReader(want)
		out, err := cmd.Output()
		require.NoError(t, err)
		got, err := parseHex(string(out))
		assert.NoError(t, err, args)
		assert.Equal(t, want, got, "%v: %s", args, out)
	}
	got, err := parseHex(string(dump(want)))
	assert.NoError(t, err)
	assert.Equal(t, want, got)
	for _, s := range []string{"0000", "00000000: 0d0a\n00000003: 01\n", "00000001: 0d0a\n",
		"*\n*"} {
		_, ok := parseDump(s)
		assert.False(t, ok, s)
	}
}

// TestDecodeCapture: the file that tcpdump wrote, by its name and from stdin.
func TestDecodeCapture(t *testing.T) {
	const name = "testdata/pcap/sll2.pcap"
	r := runProgram(t, "", "decode", name)
	golden(t, "capture.golden", fmt.Sprintf("%sexit code %d\n", r.stdout, r.code))
	assert.Equal(t, "proxyproto decode: 24 packets, 2 connections; 1 datagram with a header; 1 "+
		"datagram without one\n", r.stderr)
	file, err := os.ReadFile(name)
	require.NoError(t, err)
	assert.Equal(t, r, runProgram(t, string(file), "decode"))

	r = runProgram(t, string(file), "decode", "--json")
	golden(t, "capture-json.golden", r.stdout)
	assert.Equal(t, 3, strings.Count(r.stdout, "\n"))

	// Without its last byte, which no header has; and nothing but its head.
	r = runProgram(t, string(file[:len(file)-1]), "decode")
	assert.Equal(t, exitUsage, r.code)
	assert.Equal(t, 3, strings.Count(r.stdout, "valid: "))
	assert.Contains(t, r.stderr, "the capture is cut off after packet")
	r = runProgram(t, string(file[:24]), "decode")
	assert.Equal(t, exitNoHeader, r.code)
	assert.Contains(t, r.stderr, "no header in this capture")
}
