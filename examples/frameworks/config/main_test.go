package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/program"
)

func TestMain(m *testing.M) { program.Main(m) }

// Rules from a YAML file.
func Example() {
	policy, err := parse([]byte(`
rules:
- {prefix: 10.0.0.0/16, action: require}
- {prefix: 10.244.0.0/16, action: skip}
otherwise: reject
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, peer := range []string{"10.0.3.4:1234", "10.244.3.4:1234", "192.0.2.1:1234"} {
		fmt.Println(peer, policy(proxyproto.Peer{Addr: netip.MustParseAddrPort(peer)}))
	}
	// Output:
	// 10.0.3.4:1234 require
	// 10.244.3.4:1234 skip
	// 192.0.2.1:1234 reject
}

// A mistake in the file is an error that says where, and neither a panic nor a rule without effect.
func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"":         "EOF",
		"rules: {": "line 1",
		"rules: [{prefix: 10.0.0.0/8, action: requires}]":    `there is no action "requires"`,
		"rules: [{prefix: 10.0.0.0/8, actoin: require}]":     "actoin not found",
		"rules: [{prefix: 10.0.0.0/33, action: require}]":    `"10.0.0.0/33"`,
		"rules: [{prefix: proxy.internal, action: require}]": `"proxy.internal"`,
		"rules: [{action: require}]":                         "rule 1: ",
		"rules: [{prefix: '::ffff:0:0/90', action: skip}]":   "rule 1: ",
		"otherwise: 1": `there is no action "1"`,
	} {
		policy, err := parse([]byte(text))
		assert.Nil(t, policy, text)
		assert.ErrorContains(t, err, want, text)
	}
}

// New rules count at once, and a file with a mistake changes nothing.
func TestReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.yaml")
	ln := program.Listen(t)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, c.RemoteAddr().String())
			c.Close()
		}
	}()
	for _, step := range []struct{ rules, served string }{
		{"otherwise: require", "192.0.2.7:56324"},
		{"otherwise: reject", ""},
		{"otherwise: rejekt", ""},
		{"otherwise: require", "192.0.2.7:56324"},
		{"otherwise: requier", "192.0.2.7:56324"},
	} {
		require.NoError(t, os.WriteFile(path, []byte(step.rules), 0o600))
		reload(ln, path)
		served, _ := io.ReadAll(program.Dial(t, 0, ln.Addr().String(), line)) // may end in a reset
		assert.Equal(t, step.served, string(served), step.rules)
	}
}

// SIGHUP makes the program read the file that it serves by.
func TestHangUp(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no SIGHUP")
	}
	path := filepath.Join(t.TempDir(), "rules.yaml")
	example, err := os.ReadFile("server.yaml")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, example, 0o600))
	command := program.Command("-config", path, "-listen", "127.0.0.1:0")
	addr, _ := program.StartCommand(t, command)
	assert.Equal(t, "hello 192.0.2.7:56324\n", ask(t, addr, line))

	require.NoError(t, os.WriteFile(path, []byte("otherwise: ignore"), 0o600))
	require.NoError(t, command.Process.Signal(syscall.SIGHUP))
	assert.Eventually(t, func() bool { return strings.HasPrefix(ask(t, addr, line), "hello 127.") },
		time.Minute, time.Millisecond)
}

const line = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 80\r\n"

func ask(t *testing.T, addr, before string) string {
	t.Helper()
	c := program.Dial(t, 0, addr, before+"GET / HTTP/1.0\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(body)
}
