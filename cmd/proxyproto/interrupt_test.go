package main

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/internal/program"
)

// controlC is the byte that a terminal makes an interrupt of for what runs in its foreground.
const controlC = "\x03"

// typing is a shell's command that runs in a terminal, at which somebody types.
type typing struct {
	t        *testing.T
	cmd      *exec.Cmd
	wait     func() error
	keyboard io.Writer
	screen   *bufio.Reader
}

// typeAt starts a command in a terminal, for a minute. The files are its descriptors from 3 on.
func typeAt(t *testing.T, command string, files ...*os.File) *typing {
	t.Helper()
	s := &typing{t: t, cmd: inTerminal(t, command)}
	s.cmd.ExtraFiles = files
	var err error
	s.keyboard, err = s.cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := s.cmd.StdoutPipe()
	require.NoError(t, err)
	s.screen = bufio.NewReader(stdout)
	s.wait, err = program.Begin(s.cmd)
	require.NoError(t, err)
	late := time.AfterFunc(time.Minute, func() { s.cmd.Process.Kill() })
	t.Cleanup(func() { late.Stop(); s.cmd.Process.Kill(); s.wait() })
	return s
}

// until returns the line that has the text, which the screen shows by and by.
func (s *typing) until(text string) string {
	s.t.Helper()
	for {
		line, err := s.screen.ReadString('\n')
		require.NoError(s.t, err, "no %q", text)
		if strings.Contains(line, text) {
			return strings.TrimRight(line, "\r\n")
		}
	}
}

// interrupt types Ctrl-C, and returns what is shown from then on, and the exit code.
func (s *typing) interrupt() (rest string, code int) {
	s.t.Helper()
	_, err := io.WriteString(s.keyboard, controlC)
	require.NoError(s.t, err)
	b, err := io.ReadAll(s.screen)
	require.NoError(s.t, err)
	s.wait() // the exit code is the command's
	rest = strings.ReplaceAll(string(b), "\r\n", "\n")
	rest = strings.Replace(rest, "^C", "", 1) // the terminal's, which can be before or after a line
	return rest, s.cmd.ProcessState.ExitCode()
}

// TestControlCEndsServe: Ctrl-C ends serve as it should end, with what it has counted.
func TestControlCEndsServe(t *testing.T) {
	s := typeAt(t, "exec proxyproto serve --echo 127.0.0.1:0")
	_, addr, found := strings.Cut(s.until("listening on "), "listening on ")
	require.True(t, found)
	for _, sent := range []string{goodV2, "PROXY TCP5", goodV1} {
		(&serving{t: t, addr: addr}).raw(sent)
	}
	s.until("v1 PROXY TCP4 192.0.2.7:56324 -> 198.51.100.1:443")
	rest, code := s.interrupt()
	assert.Equal(t, "3 accepted: 1 v1, 1 v2; dropped: 1 malformed\n", rest)
	assert.Equal(t, exitOK, code)
}

// TestControlCEndsDecode: Ctrl-C ends decode of a pipe into which more could come, with the
// headers that aren't whole.
func TestControlCEndsDecode(t *testing.T) {
	in, capture, err := os.Pipe()
	require.NoError(t, err)
	defer capture.Close()
	s := typeAt(t, "exec proxyproto decode <&3", in)
	in.Close()
	w := newWire(t, "127.0.0.1", "127.0.0.2")
	packets := append(w.open(), w.tcp("A", 0, goodV2[:20]), w.udp(goodV2))
	_, err = capture.Write(pcapOf(t, layers.LinkTypeEthernet, packets...))
	require.NoError(t, err)
	s.until("valid: v2 PROXY TCP4") // the datagram, behind the segment that isn't enough
	rest, code := s.interrupt()
	assert.Contains(t, rest, "incomplete: the bytes end inside a header, 8 before its end\n")
	assert.True(t, strings.HasSuffix(rest,
		"\nproxyproto decode: 5 packets, 1 connection; 1 datagram with a header\n"), rest)
	assert.Equal(t, exitIncomplete, code)
}

// TestControlCEndsTcpdump: Ctrl-C ends tcpdump and decode at once, in either order, and both say
// what they have seen. The shell, which an interrupt would end before them, waits for them.
func TestControlCEndsTcpdump(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil || os.Getuid() != 0 {
		missing(t, "tcpdump (or root)")
		return
	}
	ln := listen(t, "tcp", "127.0.0.1:0")
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	require.NoError(t, err)
	s := typeAt(t, "trap : INT; tcpdump -i lo -U -w - "+between(port)+" | proxyproto decode")
	s.until("listening on lo")
	conn, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, goodV1)
	require.NoError(t, err)
	s.until("valid: v1 PROXY TCP4 192.0.2.7:56324 -> 198.51.100.1:443")
	rest, code := s.interrupt()
	assert.Contains(t, rest, "packets captured\n")
	assert.Contains(t, rest, " packets, 1 connection\n")
	assert.Equal(t, exitOK, code)
}
