package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/internal/program"
)

// update rewrites testdata with what the commands print now: go test -update, and read the diff.
var update = flag.Bool("update", false, "rewrite the golden files")

// executable is the built command.
var executable string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "proxyproto")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	executable = filepath.Join(dir, "proxyproto")
	if out, err := exec.Command("go", "build", "-o", executable, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// result is what a run of the command comes to.
type result struct {
	stdout, stderr string
	code           int
}

// runProgram runs the command to its end.
func runProgram(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	cmd := exec.Command(executable, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	wait, err := program.Begin(cmd)
	require.NoError(t, err)
	if err := wait(); err != nil {
		require.ErrorAs(t, err, new(*exec.ExitError))
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// inProcess runs the command in the test's own process, which is quicker.
func inProcess(stdin string, args ...string) result {
	var stdout, stderr bytes.Buffer
	code := run(args, strings.NewReader(stdin), &stdout, &stderr)
	return result{stdout.String(), stderr.String(), code}
}

// golden compares text with a file in testdata.
func golden(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
		return
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(want), text)
}

// TestUsage: each command has help with examples and exit codes, and a manual page of the same
// text.
func TestUsage(t *testing.T) {
	for _, name := range []string{"decode", "send", "serve", "check"} {
		r := runProgram(t, "", name, "-h")
		assert.Equal(t, result{r.stdout, "", 0}, r)
		assert.Equal(t, r, runProgram(t, "", "help", name))
		assert.Contains(t, r.stdout, "\n  proxyproto "+name, "%s has no example", name)
		assert.Contains(t, r.stdout, "The exit code is ", name)
		assert.NotContains(t, r.stdout, "flag.Value", name)

		man := runProgram(t, "", "man", name)
		assert.Equal(t, result{man.stdout, "", 0}, man)
		assert.Contains(t, man.stdout, `.TH "PROXYPROTO-`+strings.ToUpper(name)+`" "1"`)
		assert.Contains(t, man.stdout, "The exit code is ")
	}
	for _, args := range [][]string{{"help"}, {"man"}, {"version"}, {"--version"}, {"completion",
		"bash"}} {
		r := runProgram(t, "", args...)
		assert.Equal(t, result{r.stdout, "", 0}, r)
		assert.NotEmpty(t, r.stdout)
	}
	assert.Contains(t, runProgram(t, "", "__complete", "de").stdout, "decode")
	assert.Contains(t, runProgram(t, "", "__complete", "send", "--un").stdout, "--unknown")
}

// TestMistakes: what the user does wrong is one line that says so, and exit code 2.
func TestMistakes(t *testing.T) {
	both := []string{"send", "--print", "--source", "192.0.2.7", "--destination", "198.51.100.1"}
	for _, c := range []struct {
		args  []string
		stdin string
		says  string
	}{
		{nil, "", "say what to do"},
		{[]string{"encode"}, "", `no command "encode"`},
		{[]string{"decode", "-x"}, "", "unknown shorthand flag"},
		{[]string{"decode"}, "", "no bytes to decode"},
		{[]string{"decode", "--hex"}, " \n", "no bytes to decode"},
		{[]string{"decode", "--hex"}, "0d0", "3 hexadecimal digits"},
		{[]string{"decode", "--hex"}, "0d 0g", `"g" at byte 4`},
		{[]string{"decode", "--hex"}, "d0x0a", `"x" at byte 2`},
		{[]string{"decode", "a", "b"}, "", "accepts at most 1 arg"},
		{[]string{"decode", "testdata/missing"}, "", "testdata/missing: no such file"},
		{[]string{"decode", "testdata"}, "", "is a directory"},
		{[]string{"decode"}, "\x0a\x0d\x0d\x0a", "the capture is cut off after packet 0"},
		{[]string{"send"}, "", "give one address"},
		{[]string{"send", "a:1", "b:2"}, "", "give one address"},
		{[]string{"send", "127.0.0.1"}, "", "missing port"},
		{[]string{"send", "--print", "127.0.0.1:1"}, "", "don't connect"},
		{[]string{"send", "--print"}, "", "say the --source"},
		{[]string{"send", "--print", "--source", "192.0.2.7"}, "", "say the --destination"},
		{[]string{"send", "--print", "--source", "example"}, "", `--source "example" is neither`},
		{[]string{"send", "--print", "--source", "192.0.2.7", "--destination", "2001:db8::1"}, "",
			"aren't both IPv4 or both IPv6"},
		{[]string{"send", "--print", "--source", "fe80::7%eth0", "--destination", "fe80::1"}, "",
			"zone"},
		{[]string{"send", "--print", "--source", "/" + strings.Repeat("x", 108)}, "",
			"more than 108 bytes"},
		{[]string{"send", "--print", "--local", "--unknown"}, "", "don't go together"},
		{[]string{"send", "--print", "--local", "--source", "192.0.2.7"}, "", "have no --source"},
		{[]string{"send", "--print", "--local", "--v1"}, "", "version 1 has no command LOCAL"},
		{[]string{"send", "--print", "--local", "--crc32c"}, "", "receivers don't look for TLVs"},
		{append(both, "--v1", "--alpn", "h2"), "", "version 1 has no TLVs"},
		{append(both, "--v1", "--udp"), "", "version 1 has no protocol UDP4"},
		{append(both, "--tlv", "5"), "", "type=hex"},
		{append(both, "--tlv", "256=00"), "", `"256" isn't a number from 0 to 255`},
		{append(both, "--tlv", "0xE0=0"), "", "the value isn't hexadecimal"},
		{append(both, "--unique-id", strings.Repeat("x", 129)), "", "more than 128 bytes"},
		{append(both, "--authority", strings.Repeat("x", 65536)), "", "more than 65535 bytes"},
		{append(both, "--ssl-version", "TLSv1.3", "--ssl-verify", "0"), "",
			"0 without a client certificate"},
		{append(both, "--ssl-verify", "yes"), "", `"yes" isn't a number`},
		{[]string{"send", "--udp", "--tls", "127.0.0.1:1"}, "", "no TLS and no HTTP"},
		{[]string{"send", "--udp", "unix:/x"}, "", "--udp goes to host:port"},
		{[]string{"serve", "--trust", "10.0.0.0/8,example"}, "", `"example" is neither`},
		{[]string{"serve", "--optional", "--ignore"}, "", "don't go together"},
		{[]string{"serve", "--udp", "--echo"}, "", "leave out --echo"},
		{[]string{"serve", "--versions", "1,3"}, "", `--versions has "3"`},
		{[]string{"serve", "-n", "-1"}, "", "-n is negative"},
		{[]string{"serve", "--timeout", "-1s"}, "", "must be more than 0"},
		{[]string{"serve", "127.0.0.1:0", "127.0.0.1:0"}, "", "accepts at most 1 arg"},
		{[]string{"send", "-source", "192.0.2.7", "127.0.0.1:1"}, "",
			"flags have two dashes: --source"},
		{[]string{"send", "--proxy", "127.0.0.1:0", "--hex"}, "", "what are --print and --hex for"},
		{[]string{"send", "--timeout", "0s", "127.0.0.1:1"}, "", "--timeout must be more than 0"},
		{[]string{"send", "http://"}, "", "isn't a URL"},
		{[]string{"check"}, "", "accepts 1 arg"},
		{[]string{"check", "127.0.0.1"}, "", "missing port"},
		{[]string{"check", "--http", "--tls", "127.0.0.1:1"}, "", "one protocol at a time"},
		{[]string{"check", "--source", "example", "127.0.0.1:1"}, "", "--source"},
		{[]string{"check", "--path", "/a b", "127.0.0.1:1"}, "", "must fit into an HTTP request"},
		{[]string{"man", "encode"}, "", `no command "encode"`},
	} {
		r := runProgram(t, c.stdin, c.args...)
		assert.Equal(t, exitUsage, r.code, c.args)
		assert.Empty(t, r.stdout, c.args)
		assert.Contains(t, r.stderr, c.says, c.args)
		assert.Equal(t, 1, strings.Count(r.stderr, "\n"), "%v: %s", c.args, r.stderr)
		assert.True(t, strings.HasPrefix(r.stderr, "proxyproto"), c.args)
		assert.NotContains(t, r.stderr, ": proxyproto: ", c.args)
	}
}
