package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// TestExitCodes: every code that a command's help names, as a shell sees it.
func TestExitCodes(t *testing.T) {
	nobody := listen(t, "tcp", "127.0.0.1:0")
	nobody.Close()
	closing := eachConn(listen(t, "tcp", "127.0.0.1:0"), func(c net.Conn) {
		c.Read(make([]byte, 64))
	})
	silent := eachConn(listen(t, "tcp", "127.0.0.1:0"), func(c net.Conn) {
		c.Read(make([]byte,
			64))
		select {}
	})
	server := func(action proxyproto.Action) string {
		srv := &http.Server{Handler: http.NotFoundHandler()}
		ln := behind(t, action)
		go srv.Serve(ln)
		t.Cleanup(func() { srv.Close() })
		return ln.Addr().String()
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	quick := []string{"check", "--patience", "50ms", "--wait", "5s", "--http"}
	for _, c := range []struct {
		code  int
		stdin string
		args  []string
	}{
		{exitOK, goodV1, []string{"decode"}},
		{exitMalformed, "PROXY TCP5", []string{"decode"}},
		{exitUsage, "", []string{"decode"}},
		{exitNoHeader, "GET /", []string{"decode"}},
		{exitIncomplete, "PROXY TCP4 ", []string{"decode"}},

		{exitOK, "", []string{"send", "--local", "http://" + server(proxyproto.Require)}},
		{exitUsage, "", []string{"send"}},
		{exitNetwork, "", []string{"send", nobody.Addr().String()}},
		{exitNetwork, "", []string{"send", "--wait", "50ms", silent}},
		{exitEmpty, "", []string{"send", closing}},

		{exitUsage, "", []string{"serve", "-n", "-1"}},
		{exitNetwork, "", []string{"serve", plain.Listener.Addr().String()}},

		{exitOK, "", append(quick, server(proxyproto.Require))},
		{exitMalformed, "", append(quick, server(proxyproto.Optional))},
		{exitUsage, "", []string{"check"}},
		{exitNoHeader, "", append(quick, server(proxyproto.Skip))},
		{exitIncomplete, "", append(quick, server(proxyproto.Reject))},
		{exitNetwork, "", append(quick, nobody.Addr().String())},
	} {
		r := runProgram(t, c.stdin, c.args...)
		assert.Equal(t, c.code, r.code, "%v: %s%s", c.args, r.stdout, r.stderr)
	}
	s := startServe(t, "--echo", "-n", "1")
	s.raw(goodV1)
	s.next()
	s.done() // with code 0
}

// TestHelpNamesItsExitCodes: the codes that a command's help names are those that TestExitCodes
// has.
func TestHelpNamesItsExitCodes(t *testing.T) {
	for name, want := range map[string]string{"decode": "01342", "send": "562", "serve": "52",
		"check": "01345"} {
		help := runProgram(t, "", "help", name).stdout
		_, codes, ok := strings.Cut(help, "The exit code is ")
		require.True(t, ok, name)
		codes, _, _ = strings.Cut(codes, "\n\n")
		var got strings.Builder
		for _, m := range regexp.MustCompile(`(?:^|, |and )([0-6]) if`).FindAllStringSubmatch(
			strings.ReplaceAll(codes, "\n", " "), -1) {
			got.WriteString(m[1])
		}
		assert.Equal(t, want, got.String(), "%s: %s", name, codes)
	}
}

// TestClosedOutput: "| head -1" ends decode as it ends other programs, without a word.
func TestClosedOutput(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	r.Close()
	defer w.Close()
	cmd := exec.Command(executable, "decode", "testdata/pcap/sll2.pcap")
	cmd.Stdout = w
	var stderr strings.Builder
	cmd.Stderr = &stderr
	require.Error(t, cmd.Run())
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	assert.True(t, status.Signaled() && status.Signal() == syscall.SIGPIPE, "%v", cmd.ProcessState)
	assert.Empty(t, stderr.String())
}

// TestJQLines: every line for jq in any help runs, and says something, of what its command prints.
func TestJQLines(t *testing.T) {
	jq, err := exec.LookPath("jq")
	if err != nil {
		missing(t, "jq")
		return
	}
	option := inProcess(string(rawCapture(t, rawTCP(t, "000003e8", "02", "", ""),
		rawTCP(t, "000003e9", "18", toa4, goodV2))), "decode", "--json")
	srv := &http.Server{Handler: http.NotFoundHandler()}
	ln := behind(t, proxyproto.Optional)
	go srv.Serve(ln)
	defer srv.Close()
	check := runProgram(t, "", "check", "--json", "--http", "--patience", "50ms",
		ln.Addr().String())
	found := 0
	for _, c := range []struct{ help, output, want string }{
		{newDecode().Example, option.stdout, "192.0.2.7:56324"},
		{newCheck().Example, check.stdout, "may be anybody"},
	} {
		for _, m := range regexp.MustCompile(
			`--json .*\| jq -r (?:'(.*)'|(\S+))`).FindAllStringSubmatch(c.help, -1) {
			cmd := exec.Command(jq, "-r", m[1]+m[2])
			cmd.Stdin = strings.NewReader(c.output)
			out, err := cmd.CombinedOutput()
			assert.NoError(t, err, "%s: %s", m[0], out)
			assert.Contains(t, string(out), c.want, m[0])
			found++
		}
	}
	assert.Equal(t, 3, found)
}
