package main

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/internal/program"
)

// hostile has what a terminal might obey, and what turns text around.
const hostile = "/run/\x1b[2J\u009b2J\u009d\x7f\u202e\u2066\U000e0001\u2028<&>"

// TestJSONHasNoControlCharacters: neither decode nor serve prints any, and what they print means
// the same bytes.
func TestJSONHasNoControlCharacters(t *testing.T) {
	sent := runProgram(t, "", "send", "--print", "--source", hostile, "--destination", "@x",
		"--authority", hostile)
	require.Equal(t, 0, sent.code, sent.stderr)
	s := startServe(t, "-n", "1")
	s.raw(sent.stdout)
	served, err := s.out.ReadString('\n')
	require.NoError(t, err)
	for _, line := range []string{runProgram(t, sent.stdout, "decode", "--json").stdout, served} {
		line = strings.TrimSuffix(line, "\n")
		assert.Equal(t, printable(line), line)
		assert.Contains(t, line, "<&>")
		var got struct{ Header *header }
		require.NoError(t, json.Unmarshal([]byte(line), &got))
		assert.Equal(t, hostile, got.Header.Source)
		assert.Empty(t, got.Header.TLVs[0].Value, "isn't text")
	}
}

// TestEventsHaveOneShape: every event has its time and its kind, and no key has a space.
func TestEventsHaveOneShape(t *testing.T) {
	cmd := exec.Command(executable, "serve", "--json", "--echo", "-n", "3", "127.0.0.1:0")
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	wait, err := program.Begin(cmd)
	require.NoError(t, err)
	defer wait()
	defer cmd.Process.Kill()
	dec := json.NewDecoder(stdout)
	var first map[string]any
	require.NoError(t, dec.Decode(&first))
	events := []map[string]any{first}
	for _, b := range []string{goodV2, "hello there", "PROXY TCP5"} {
		(&serving{t: t, addr: first["address"].(string)}).raw(b)
	}
	for len(events) < 5 {
		var e map[string]any
		require.NoError(t, dec.Decode(&e))
		events = append(events, e)
	}
	var kinds []string
	for _, e := range events {
		kinds = append(kinds, e["event"].(string))
		_, err := time.Parse(time.RFC3339, e["time"].(string))
		assert.NoError(t, err)
		checkKeys(t, e)
	}
	assert.Equal(t, []string{"listening", "connection", "dropped", "dropped", "done"}, kinds)
	assert.Equal(t, map[string]any{"no_header": 1.0, "malformed": 1.0},
		events[4]["stats"].(map[string]any)["dropped"])
}

func checkKeys(t *testing.T, v any) {
	t.Helper()
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			assert.Regexp(t, `^[a-z0-9_]+$`, k)
			checkKeys(t, inner)
		}
	case []any:
		for _, inner := range v {
			checkKeys(t, inner)
		}
	}
}

// TestJQ: the jq lines in the help do what they say.
func TestJQ(t *testing.T) {
	jq, err := exec.LookPath("jq")
	if err != nil {
		missing(t, "jq")
		return
	}
	s := startServe(t, "--echo", "-n", "3")
	var lines strings.Builder
	for _, b := range []string{goodV2, "hello", string(mustHeader(t, "--tlv", "0xE5:text"))} {
		s.raw(b)
		line, err := s.out.ReadString('\n')
		require.NoError(t, err)
		lines.WriteString(line)
	}
	line, err := s.out.ReadString('\n')
	require.NoError(t, err)
	lines.WriteString(line)

	want := []string{"192.0.2.7:56324", "no header", `"name": "0xE5 (custom)"`, `"no_header": 1`}
	programs := regexp.MustCompile(`serve --json.*\| jq (-r )?'(.*)'`).FindAllStringSubmatch(
		newServe().Example, -1)
	require.Len(t, programs, len(want))
	for i, p := range programs {
		cmd := exec.Command(jq, "-r", p[2])
		cmd.Stdin = strings.NewReader(lines.String())
		out, err := cmd.CombinedOutput()
		assert.NoError(t, err, "%s: %s", p[2], out)
		assert.Contains(t, string(out), want[i], p[2])
	}
	capture, err := os.ReadFile("testdata/pcap/sll2.pcap")
	require.NoError(t, err)
	cmd := exec.Command(jq, "-r", ".header.source")
	cmd.Stdin = strings.NewReader(runProgram(t, string(capture), "decode", "--json").stdout)
	out, err := cmd.Output()
	require.NoError(t, err)
	assert.Equal(t, "192.0.2.7:56324\n192.0.2.7:56324\n192.0.2.7:5353\n", string(out))
}

func mustHeader(t *testing.T, args ...string) []byte {
	t.Helper()
	r := runProgram(t, "", append([]string{"send", "--print", "--source", "192.0.2.7:1",
		"--destination", "192.0.2.1:2"}, args...)...)
	require.Equal(t, 0, r.code, r.stderr)
	return []byte(r.stdout)
}

// TestServeChecksBeforeItListens: a mistake on a busy port is the mistake, not the port.
func TestServeChecksBeforeItListens(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer busy.Close()
	for _, args := range [][]string{{"--timeout", "1ns"}, {"--versions", "3"}, {"--trust", "x"},
		{"--max-size", "-1"}} {
		r := runProgram(t, "", append(append([]string{"serve"}, args...), busy.Addr().String())...)
		assert.Equal(t, exitUsage, r.code, "%v: %s", args, r.stderr)
	}
}
