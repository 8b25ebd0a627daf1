package main

import (
	"bufio"
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/internal/program"
)

// TestCapturesThatSayLess: what isn't a whole header from a connection's beginning on.
func TestCapturesThatSayLess(t *testing.T) {
	w := newWire(t, "127.0.0.1", "127.0.0.2")
	conn := func(rest ...[]byte) [][]byte { return append(w.open(), rest...) }
	cut := w.tcp("A", 0, goodV2)
	for _, c := range []struct {
		name     string
		packets  [][]byte
		verdicts []string
		code     int
		says     string
	}{
		{"no header", conn(w.tcp("A", 0, "GET / HTTP/1.1\r\n")), []string{none}, exitNoHeader, ""},
		{"malformed", conn(w.tcp("A", 0, "PROXY TCP5")), []string{malformed}, exitMalformed, ""},
		{"ends inside", conn(w.tcp("A", 0, goodV2[:20]), w.tcp("FA", 20, "")), []string{incomplete},
			exitIncomplete, ""},
		{"reset inside", conn(w.tcp("A", 0, goodV2[:20]), w.answer("RA", 0, "")),
			[]string{incomplete}, exitIncomplete, ""},
		{"capture ends inside", conn(w.tcp("A", 0, goodV2[:20])), []string{incomplete},
			exitIncomplete, ""},
		{"a segment is missing", conn(w.tcp("A", 0, goodV2[:20]), w.tcp("A", 24, goodV2[24:])),
			[]string{incomplete}, exitIncomplete, ""},
		{"another header later", conn(w.tcp("A", 0, goodV2), w.tcp("A", 28, goodV1[:10]),
			w.tcp("A", 38, goodV1[10:])), []string{valid, valid}, exitOK, ""},
		{"from the middle", [][]byte{w.tcp("A", 100, "more of a body"), w.answer("A", 0,
			"HTTP/1.1 200 OK\r\n")}, nil, exitNoHeader, "1 connection that began before the " +
			"capture"},
		{"nothing sent", append(w.open(), w.tcp("FA", 0, ""), w.answer("FA", 0, ""),
			w.tcp("A", 1, "")), nil, exitNoHeader, "1 connection without a byte of the client's"},
		{"bare datagrams", [][]byte{w.udp("query"), w.udp("query")}, nil, exitNoHeader,
			"2 datagrams without one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			reports, stderr, code := decoded(t, pcapOf(t, layers.LinkTypeEthernet, c.packets...))
			var verdicts []string
			for i, r := range reports {
				verdicts = append(verdicts, r.Verdict)
				assert.Equal(t, i > 0, r.Flow.Second)
			}
			assert.Equal(t, c.verdicts, verdicts)
			assert.Equal(t, c.code, code)
			assert.Contains(t, stderr, c.says)
		})
	}

	// tcpdump -s 60 has less of each packet than there was.
	short := infoOf(3, cut)
	short.CaptureLength = 60
	file := pcapOf(t, layers.LinkTypeEthernet, conn()...)
	file = append(file, record(short.CaptureLength, short.Length, cut[:60])...)
	reports, _, code := decoded(t, file)
	require.Len(t, reports, 1)
	assert.True(t, reports[0].Flow.Cut)
	assert.Equal(t, exitIncomplete, code)

	_, stderr, code := decoded(t, pcapOf(t, layers.LinkTypeIEEE802_11, cut))
	assert.Contains(t, stderr, "1 packet of link type 105, which can't be read")
	assert.Equal(t, exitNoHeader, code)
}

// record is a packet in a pcap file with any lengths.
func record(captured, length int, b []byte) []byte {
	head := make([]byte, 16)
	for i, n := range []int{captured, length} {
		head[8+4*i], head[9+4*i], head[10+4*i], head[11+4*i] = byte(n), byte(n>>8), byte(n>>16),
			byte(n>>24)
	}
	return append(head, b...)
}

// TestCapturesCutOff: a capture that is cut off anywhere gets what could be read and one clear
// line, and so does one whose bytes are changed anywhere.
func TestCapturesCutOff(t *testing.T) {
	w := newWire(t, "127.0.0.1", "127.0.0.2")
	packets := append(w.open(), w.tcp("A", 0, goodV2+"hello"), w.udp(goodV2+"query"))
	for _, file := range [][]byte{pcapOf(t, layers.LinkTypeEthernet, packets...), pcapngOf(t,
		packets...)} {
		whole := 0
		for n := 4; n < len(file); n++ { // fewer bytes are no capture
			reports, stderr, code := decoded(t, file[:n])
			assert.GreaterOrEqual(t, len(reports), whole, n)
			whole = len(reports)
			assert.LessOrEqual(t, strings.Count(stderr, "\n"), 2, stderr)
			assert.Contains(t, []int{exitOK, exitUsage, exitNoHeader}, code, "%d: %s", n, stderr)
		}
		assert.Equal(t, 1, whole)

		random := rand.New(rand.NewPCG(1, 2))
		for range 1000 {
			changed := slices.Clone(file)
			for range 1 + random.IntN(4) {
				changed[random.IntN(len(changed))] = []byte{0, 1, 0x7f, 0x80, 0xff,
					byte(random.IntN(256))}[random.IntN(6)]
			}
			var out, errs bytes.Buffer
			code := run([]string{"decode", "--json"}, bytes.NewReader(changed), &out, &errs)
			assert.LessOrEqual(t, code, exitIncomplete)
		}
	}
	huge := append(pcapOf(t, layers.LinkTypeEthernet), record(1<<31-1, 1<<31-1, nil)...)
	_, stderr, code := decoded(t, huge)
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, stderr, "the capture can't be read beyond packet 0")
}

// following is a decode that reads a capture from a pipe.
type following struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr bytes.Buffer
	wait   func() error
}

func follow(t *testing.T) *following {
	t.Helper()
	f := &following{t: t, cmd: exec.Command(executable, "decode")}
	var err error
	f.in, err = f.cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := f.cmd.StdoutPipe()
	require.NoError(t, err)
	f.out = bufio.NewReader(stdout)
	f.cmd.Stderr = &f.stderr
	f.wait, err = program.Begin(f.cmd)
	require.NoError(t, err)
	t.Cleanup(func() { f.cmd.Process.Kill(); f.wait() })
	return f
}

// until reads lines until one has the text.
func (f *following) until(text string) {
	f.t.Helper()
	for {
		line, err := f.out.ReadString('\n')
		require.NoError(f.t, err, "no %q: %s", text, &f.stderr)
		if strings.Contains(line, text) {
			return
		}
	}
}

// TestDecodeStreams: a connection is printed while the capture goes on, and the rest when it is
// interrupted.
func TestDecodeStreams(t *testing.T) {
	w := newWire(t, "127.0.0.1", "127.0.0.2")
	file := pcapOf(t, layers.LinkTypeEthernet, append(w.open(), w.tcp("A", 0, goodV2))...)
	f := follow(t)
	_, err := f.in.Write(file)
	require.NoError(t, err)
	f.until("28 bytes of header")

	w.port++
	rest := pcapOf(t, layers.LinkTypeEthernet, append(w.open(), w.tcp("A", 0, goodV2[:20]),
		w.udp(goodV2))...)
	_, err = f.in.Write(rest[24:])
	require.NoError(t, err)
	f.until("valid: v2 PROXY TCP4") // the datagram, behind the segment that isn't enough
	require.NoError(t, f.cmd.Process.Signal(os.Interrupt))
	f.until("incomplete: the bytes end inside a header, 8 before its end")
	_, err = io.ReadAll(f.out)
	require.NoError(t, err)
	assert.Error(t, f.wait())
	assert.Equal(t, exitIncomplete, f.cmd.ProcessState.ExitCode())
	assert.Contains(t, f.stderr.String(), "2 connections; 1 datagram with a header")
}

// between is tcpdump's filter for the connections to one of our listeners: other programs' ones can
// have the same port at another of loopback's addresses.
func between(port string) string {
	return "tcp and src 127.0.0.1 and dst 127.0.0.1 and port " + port
}

// TestDecodeTcpdump: the same with the real tcpdump, which the terminal interrupts too.
func TestDecodeTcpdump(t *testing.T) {
	tcpdump, err := exec.LookPath("tcpdump")
	if err != nil || os.Getuid() != 0 {
		missing(t, "tcpdump (or root)")
		return
	}
	ln := listen(t, "tcp", "127.0.0.1:0")
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	require.NoError(t, err)
	f := follow(t)
	capture := exec.Command(tcpdump, "-i", "lo", "-U", "-w", "-", between(port))
	capture.Stdout = f.in.(*os.File)
	stderr, err := capture.StderrPipe()
	require.NoError(t, err)
	wait, err := program.Begin(capture)
	require.NoError(t, err)
	defer wait()
	defer capture.Process.Kill()
	f.in.Close()
	_, err = bufio.NewReader(stderr).ReadString('\n') // it listens
	require.NoError(t, err)

	conn, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, goodV1)
	require.NoError(t, err)
	f.until("valid: v1 PROXY TCP4 192.0.2.7:56324 -> 198.51.100.1:443")
	require.NoError(t, capture.Process.Signal(os.Interrupt))
	require.NoError(t, f.cmd.Process.Signal(os.Interrupt))
	_, err = io.ReadAll(f.out)
	require.NoError(t, err)
	assert.NoError(t, f.wait())
	assert.Contains(t, f.stderr.String(), "1 connection\n")
}

// TestDatagramsAreNotKept: of many datagrams nothing is left but a bounded number of flows.
func TestDatagramsAreNotKept(t *testing.T) {
	f := newFlows(func(*report) error { return nil })
	w := newWire(t, "127.0.0.1", "127.0.0.2")
	bare, headed := w.udp(strings.Repeat("x", 1000)), w.udp(goodV2+"query")
	for i := range 3 * maxUDPFlows {
		require.NoError(t, f.add(bare, infoOf(i, bare), layers.LinkTypeEthernet))
		headed[26], headed[27], headed[28] = byte(i>>16), byte(i>>8), byte(i) // another client
		require.NoError(t, f.add(headed, infoOf(i, headed), layers.LinkTypeEthernet))
		require.LessOrEqual(t, len(f.udp), maxUDPFlows)
	}
	assert.Equal(t, 3*maxUDPFlows, f.bare)
	assert.Equal(t, 3*maxUDPFlows, f.shown)
	assert.Empty(t, f.undecided)
}

// TestConnectionsAreForgotten: what a capture of days has of connections that said nothing for
// long isn't kept.
func TestConnectionsAreForgotten(t *testing.T) {
	f := newFlows(func(*report) error { return nil })
	w := newWire(t, "127.0.0.1", "127.0.0.2")
	for i := range 1000 {
		w.port = layers.TCPPort(1024 + i)
		for _, p := range append(w.open(), w.tcp("A", 0, goodV2[:20])) {
			info := infoOf(0, p)
			info.Timestamp = captureStart.Add(time.Duration(i) * idlePatience / 10)
			require.NoError(t, f.add(p, info, layers.LinkTypeEthernet))
		}
	}
	assert.LessOrEqual(t, len(f.undecided), 20)
	assert.Greater(t, f.shown, 900)
}
