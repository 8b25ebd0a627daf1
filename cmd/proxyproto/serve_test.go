package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/internal/program"
)

// serving is a running serve.
type serving struct {
	t      *testing.T
	cmd    *exec.Cmd
	wait   func() error
	addr   string
	out    *bufio.Reader // stdout
	stderr *bytes.Buffer
}

// startServe runs serve on a free port, with -json.
func startServe(t *testing.T, args ...string) *serving {
	t.Helper()
	s := &serving{t: t, stderr: new(bytes.Buffer)}
	s.cmd = exec.Command(executable, append(append([]string{"serve", "--json"}, args...),
		"127.0.0.1:0")...)
	s.cmd.Stderr = s.stderr
	stdout, err := s.cmd.StdoutPipe()
	require.NoError(t, err)
	s.out = bufio.NewReader(stdout)
	s.wait, err = program.Begin(s.cmd)
	require.NoError(t, err)
	t.Cleanup(func() { s.cmd.Process.Kill(); s.wait() })
	e := s.next()
	require.Equal(t, "listening", e.Event)
	s.addr = e.Address
	return s
}

// next returns the next event.
func (s *serving) next() event {
	s.t.Helper()
	line, err := s.out.ReadString('\n')
	require.NoError(s.t, err, s.stderr)
	var e event
	require.NoError(s.t, json.Unmarshal([]byte(line), &e), line)
	return e
}

// done waits for serve to end as it should, and returns its counts.
func (s *serving) done() map[string]uint64 {
	s.t.Helper()
	e := s.next()
	require.Equal(s.t, "done", e.Event)
	rest, err := io.ReadAll(s.out)
	require.NoError(s.t, err)
	assert.Empty(s.t, rest)
	assert.NoError(s.t, s.wait(), s.stderr)
	assert.Empty(s.t, s.stderr.String())
	require.NotNil(s.t, e.Stats)
	counts := map[string]uint64{}
	for name, n := range map[string]uint64{
		"accepted": e.Stats.Accepted, "v1": e.Stats.V1, "v2": e.Stats.V2, "local": e.Stats.Local,
		"bare": e.Stats.Bare, "ignored": e.Stats.Ignored, "skipped": e.Stats.Skipped,
		"probes": e.Stats.Probes,
	} {
		if n > 0 || name == "accepted" {
			counts[name] = n
		}
	}
	for reason, n := range e.Stats.Dropped {
		counts["dropped "+reason] = n
	}
	return counts
}

// raw sends bytes and returns what comes back.
func (s *serving) raw(b string) string {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	require.NoError(s.t, err)
	defer conn.Close()
	// A dropped connection may be reset before all of this is done.
	_, _ = io.WriteString(conn, b)
	_ = conn.(*net.TCPConn).CloseWrite()
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

func host(t *testing.T, hostport string) string {
	t.Helper()
	host, _, err := net.SplitHostPort(hostport)
	require.NoError(t, err)
	return host
}

const (
	goodV1 = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
	goodV2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb"
	local  = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
)

// TestServePolicies: what each flag lets in, and what it says of the rest.
func TestServePolicies(t *testing.T) {
	type sent struct {
		bytes  string
		event  string
		reason string
		source string // "" if there is no header
		answer string
	}
	for _, c := range []struct {
		args []string
		sent []sent
		want map[string]uint64
	}{
		{
			nil,
			[]sent{
				{goodV1 + "hello", "connection", "", "192.0.2.7:56324", "hello"},
				{goodV2 + "hello", "connection", "", "192.0.2.7:56324", "hello"},
				{local + "hello", "connection", "", "", "hello"},
				{"hello", "dropped", "no header", "", ""},
				{"PROXY TCP5", "dropped", "malformed", "", ""},
				{goodV2[:20], "dropped", "incomplete", "", ""},
			},
			map[string]uint64{
				"accepted": 6, "v1": 1, "v2": 1, "local": 1,
				"dropped no_header": 1, "dropped malformed": 1, "dropped incomplete": 1,
			},
		},
		{
			[]string{"--trust", "192.0.2.0/24", "--trust", "10.0.0.1,2001:db8::/32"},
			[]sent{{goodV2 + "hello", "dropped", "rejected", "", ""}},
			map[string]uint64{"accepted": 1, "dropped rejected": 1},
		},
		{
			[]string{"--trust", "192.0.2.0/24,127.0.0.1"},
			[]sent{{goodV2 + "hello", "connection", "", "192.0.2.7:56324", "hello"}},
			map[string]uint64{"accepted": 1, "v2": 1},
		},
		{
			[]string{"--trust", "192.0.2.0/24", "--direct"},
			[]sent{{goodV1 + "hello", "connection", "", "", goodV1 + "hello"}},
			map[string]uint64{"accepted": 1, "skipped": 1},
		},
		{
			[]string{"--optional"},
			[]sent{
				{goodV2 + "hello", "connection", "", "192.0.2.7:56324", "hello"},
				{"hello", "connection", "", "", "hello"},
				{"PROXY TCP5", "dropped", "malformed", "", ""},
			},
			map[string]uint64{"accepted": 3, "v2": 1, "bare": 1, "dropped malformed": 1},
		},
		{
			[]string{"--ignore"},
			[]sent{
				{goodV2 + "hello", "connection", "", "", "hello"},
				{"hello", "connection", "", "", "hello"},
			},
			map[string]uint64{"accepted": 2, "ignored": 1, "bare": 1},
		},
		{
			[]string{"--versions", "v1"},
			[]sent{
				{goodV1 + "hello", "connection", "", "192.0.2.7:56324", "hello"},
				{goodV2 + "hello", "dropped", "version", "", ""},
			},
			map[string]uint64{"accepted": 2, "v1": 1, "dropped version": 1},
		},
		{
			[]string{"--max-size", "27"},
			[]sent{{goodV2 + "hello", "dropped", "too large", "", ""}},
			map[string]uint64{"accepted": 1, "dropped too_large": 1},
		},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			t.Parallel()
			s := startServe(t, append(c.args, "--echo", "-n", fmt.Sprint(len(c.sent)))...)
			for _, sent := range c.sent {
				assert.Equal(t, sent.answer, s.raw(sent.bytes))
				e := s.next()
				assert.Equal(t, sent.event, e.Event)
				assert.Equal(t, sent.reason, e.Reason)
				assert.Equal(t, "127.0.0.1", host(t, e.Peer))
				assert.Equal(t, sent.reason != "", e.Error != "")
				source := ""
				if e.Header != nil {
					source = e.Header.Source
				}
				assert.Equal(t, sent.source, source)
			}
			assert.Equal(t, c.want, s.done())
		})
	}
}

// TestServeTimeout: a silent peer is dropped, and a probe isn't an event.
func TestServeTimeout(t *testing.T) {
	s := startServe(t, "--timeout", "50ms", "-n", "1")
	assert.Empty(t, s.raw(""))
	conn, err := net.Dial("tcp", s.addr)
	require.NoError(t, err)
	defer conn.Close()
	e := s.next()
	assert.Equal(t, "dropped", e.Event)
	assert.Equal(t, "timeout", e.Reason)
	assert.Equal(t, map[string]uint64{"accepted": 2, "probes": 1, "dropped timeout": 1}, s.done())
}

// TestServeHTTP: a request is answered with what its connection brought, as is the next one on it.
func TestServeHTTP(t *testing.T) {
	s := startServe(t, "-n", "2")
	answer := s.raw(goodV2 + strings.Repeat("GET / HTTP/1.1\r\nHost: www.example\r\n\r\n", 2))
	e := s.next()
	assert.Equal(t, "192.0.2.7:56324", e.Header.Source)
	assert.Equal(t, 2, strings.Count(answer, "HTTP/1.1 200 OK\r\n"))
	assert.Equal(t, 2, strings.Count(answer, "Content-Type: application/json\r\n"))
	want, err := json.Marshal(e.Header)
	require.NoError(t, err)
	assert.Equal(t, 2, strings.Count(answer, string(want)))

	// The last connection is answered too, although serve ends.
	r := runProgram(t, "GET / HTTP/1.1\r\nHost: www.example\r\n\r\n", "send", "--local", s.addr)
	assert.Contains(t, r.stdout, "HTTP/1.1 200 OK\r\n")
	assert.Contains(t, r.stdout, `"command":"LOCAL"`)
	s.next()
	s.done()
}

// TestServeLast: the last connection goes on although serve is about to end.
func TestServeLast(t *testing.T) {
	s := startServe(t, "--echo", "-n", "1")
	conn, err := net.Dial("tcp", s.addr)
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, goodV1)
	require.NoError(t, err)
	s.next()
	_, err = io.WriteString(conn, "hello")
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(answer))
	s.done()
}

// TestServeInterrupted: it ends well, and tells what it has counted.
func TestServeInterrupted(t *testing.T) {
	for _, args := range [][]string{{}, {"--echo"}, {"--udp"}} {
		s := startServe(t, args...)
		require.NoError(t, s.cmd.Process.Signal(os.Interrupt))
		assert.Equal(t, map[string]uint64{"accepted": 0}, s.done(), args)
	}
}

func TestServePortTaken(t *testing.T) {
	for network, args := range map[string][]string{"tcp": {"serve"}, "udp": {"serve", "--udp"}} {
		var taken string
		if network == "tcp" {
			ln, err := net.Listen(network, "127.0.0.1:0")
			require.NoError(t, err)
			defer ln.Close()
			taken = ln.Addr().String()
		} else {
			pc, err := net.ListenPacket(network, "127.0.0.1:0")
			require.NoError(t, err)
			defer pc.Close()
			taken = pc.LocalAddr().String()
		}
		r := runProgram(t, "", append(args, taken)...)
		assert.Equal(t, exitNetwork, r.code, network)
		assert.Contains(t, r.stderr, "address already in use", network)
		assert.Equal(t, 1, strings.Count(r.stderr, "\n"), network)
	}
}

// clock is the time in front of each event.
var clock = regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d\.\d\d\d `)

var ports = regexp.MustCompile(`(127\.0\.0\.1|\[::1\]):\d+`)

// TestTranscript is what people see: serve for a few connections, and send for each of them.
func TestTranscript(t *testing.T) {
	cmd := exec.Command(executable, "serve", "-n", "5", "127.0.0.1:0")
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	wait, err := program.Begin(cmd)
	require.NoError(t, err)
	t.Cleanup(func() { cmd.Process.Kill(); wait() })
	errs := bufio.NewReader(stderr)
	line, err := errs.ReadString('\n')
	require.NoError(t, err)
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	require.True(t, ok, line)

	var text strings.Builder
	var bodies []string
	const request = "GET / HTTP/1.0\r\n\r\n"
	for _, args := range [][]string{
		{"--source", "192.0.2.7:56324", "--destination", "198.51.100.1:443"},
		{"--v1", "--source", "[2001:db8::7]:56324", "--destination", "[2001:db8::1]:443"},
		{
			"--source", "192.0.2.7:56324", "--destination", "198.51.100.1:443", "--crc32c",
			"--alpn", "h2",
			"--authority", "www.example",
			"--unique-id", "7F000001:B390", "--netns", "blue", "--ssl-version", "TLSv1.3",
			"--ssl-cipher",
			"TLS_AES_256_GCM_SHA384",
			"--ssl-cn", "client.example", "--tlv", "0xEA=01767063652d31", "--tlv", "0xE5:text",
			"--tlv",
			"4=0000",
		},
		{"--source", "/run/\x1b[2J"},
		{"--local"},
	} {
		r := runProgram(t, request, append(append([]string{"send"}, args...), addr)...)
		assert.Equal(t, result{r.stdout, "", 0}, r)
		_, body, ok := strings.Cut(r.stdout, "\r\n\r\n")
		assert.True(t, ok)
		fmt.Fprintf(&text, "$ proxyproto send %s\n%s\n", printable(strings.Join(args, " ")), body)
		bodies = append(bodies, body)
	}
	rest, err := io.ReadAll(errs)
	require.NoError(t, err)
	require.NoError(t, wait())
	assert.Equal(t, clock.ReplaceAllString(stdout.String(), ""), strings.Join(bodies, ""))
	for _, line := range strings.Split(stdout.String(), "\n") {
		assert.Equal(t, printable(line), line, "a terminal could obey this")
	}
	fmt.Fprintf(&text, "$ proxyproto serve -n 5\n%s%s", stdout.String(), rest)
	golden(t, "transcript.golden", clock.ReplaceAllString(ports.ReplaceAllString(text.String(),
		"$1:PORT"), "12:34:56.789 "))
}
