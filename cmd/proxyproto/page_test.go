package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

const page = "../../docs/command.md"

// TestPage: docs/command.md is the help and what a terminal shows of each command.
func TestPage(t *testing.T) {
	var b strings.Builder
	b.WriteString("# The command\n\n<!-- written by go test -run TestPage -update . in " +
		"cmd/proxyproto: don't edit -->\n\n" +
		"Install it from a checkout with `cd cmd/proxyproto && go install .`, and once it is " +
		"published " +
		"with\n" +
		"`go install github.com/seed2e8fe8ee/proxyproto/cmd/proxyproto@latest`.\n")
	section := func(title, text string) {
		fmt.Fprintf(&b, "\n%s\n\n```\n%s\n```\n", title, strings.TrimRight(text, "\n"))
	}
	section("## proxyproto", runProgram(t, "", "help").stdout)
	section("## decode", runProgram(t, "", "help", "decode").stdout)
	section("A header that breaks a rule:", terminal(t,
		`printf 'PROXY TCP4 192.0.2.07 198.51.100.1 56324 443\r\n' | proxyproto decode`))
	section("A capture:", terminal(t, "proxyproto decode testdata/pcap/sll2.pcap"))
	section("## send", runProgram(t, "", "help", "send").stdout)
	section("A header to look at:", terminal(t, "proxyproto send --hex --source 192.0.2.7:56324 "+
		"--destination 198.51.100.1:443"))
	section("## serve", runProgram(t, "", "help", "serve").stdout)
	section("What it prints for some of send's headers, and what send gets back, without the "+
		"requests' heads:",
		transcript(t))
	section("## check", runProgram(t, "", "help", "check").stdout)

	ln := behind(t, proxyproto.Optional)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, r.RemoteAddr)
	})}
	go srv.Serve(ln)
	defer srv.Close()
	addr := ln.Addr().String()
	section("A server that takes a header or none:", strings.ReplaceAll(
		terminal(t, "proxyproto check --patience 1s "+addr), addr, "127.0.0.1:8080"))

	text := clock.ReplaceAllString(b.String(), "12:34:56.789 ")
	text = regexp.MustCompile(`\(\d+\.\d\d s\)`).ReplaceAllString(text, "(0.01 s)")
	text = regexp.MustCompile(`after \d+\.\d s`).ReplaceAllString(text, "after 0.0 s")
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(text), 0o644))
		return
	}
	want, err := os.ReadFile(page)
	require.NoError(t, err)
	assert.Equal(t, string(want), text)
}

// inTerminal is a shell's command in a terminal of 100 columns. Its stdin is what is typed there.
func inTerminal(t *testing.T, command string) *exec.Cmd {
	t.Helper()
	script, err := exec.LookPath("script")
	if err != nil {
		missing(t, "script (bsdutils)")
		t.SkipNow()
	}
	cmd := exec.Command(script, "-qec", command, "/dev/null")
	dir := t.TempDir()
	require.NoError(t, os.Symlink(executable, dir+"/proxyproto"))
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "TERM=dumb", "SHELL=/bin/sh",
		"COLUMNS=100")
	return cmd
}

// terminal is what a terminal shows of a shell's command, which has one to write to.
func terminal(t *testing.T, command string) string {
	t.Helper()
	cmd := inTerminal(t, command)
	cmd.Stdin = strings.NewReader("")
	out, _ := cmd.Output() // the exit code is the command's
	shown := strings.ReplaceAll(string(out), "\r\n", "\n")
	shown = strings.ReplaceAll(shown, "\r", "")
	for line := range strings.Lines(shown) {
		line = strings.TrimSuffix(line, "\n")
		assert.Equal(t, printable(line), line, "a terminal could obey this")
	}
	return "$ " + command + "\n" + shown
}

// transcript is what TestTranscript has seen of serve and send.
func transcript(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("testdata/transcript.golden")
	require.NoError(t, err)
	return string(b)
}
