package examples

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/internal/program"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// A victim is a program as somebody runs it.
type victim struct {
	name string   // the folder, and which of its ways to run
	args []string // besides -listen

	first   string   // what a client's connection begins with: a header, or nothing
	tls     bool     // what follows is inside TLS
	outside []attack // before that
	inside  []attack

	ask, answer string // of a client that wants nothing but to be served
}

// victims are all programs that serve streams. back is the address of one that expects headers.
func victims(t *testing.T, back string) []victim {
	cert, key := certificate(t)
	headerAndTLS := slices.Clone(onHeader)
	for _, a := range onTLS {
		a.send = header + a.send
		headerAndTLS = append(headerAndTLS, a)
	}
	const http, client = "GET / HTTP/1.0\r\n\r\n", "192.0.2.7:56324"
	return []victim{
		{"httpserver", nil, header, false, onHeader, onHTTP, http, client},
		{"https", nil, header, false, onHeader, slices.Concat(onHTTP, onHTTP2), http, client},
		{"https with TLS", []string{"-cert", cert, "-key", key}, header, true, headerAndTLS, onHTTP,
			http, client},
		{"limit", []string{"-most", "4"}, header, false, onHeader, onHTTP, http, client},
		{"observe", []string{"-stats", "127.0.0.1:0"}, header, false, onHeader, onHTTP, http,
			client},
		// Its answers take ten seconds each: nobody gets as far as to take none in.
		{"shutdown", nil, header, false, onHeader, onHTTP[:len(onHTTP)-1], http, client},
		{"reuseport", nil, header, false, onHeader, onHTTP, http, client},
		{"systemd", nil, header, false, onHeader, onHTTP, http, client},
		{"unixsocket", nil, header, false, onHeader, onHTTP, http, client},
		{"reverseproxy", []string{"-to", "http://" + back, "-patience", "3s"}, "", false, nil,
			onHTTP, http, "127.0.0.1:"},
		{"reverseproxy in a chain", []string{"-to", "http://" + back, "-patience", "3s",
			"-trust", "127.0.0.1"}, header, false, onHeader, onHTTP, http, client},
		{"relay", []string{"-to", back, "-silence", "1s"}, "", false, nil, onHTTP, http,
			"127.0.0.1:"},
		{"relay in a chain", []string{"-to", back, "-silence", "1s", "-trust", "127.0.0.1"},
			header, false, onHeader, onHTTP, http, client},
		{"tlsproxy", []string{"-to", back, "-silence", "1s", "-cert", cert, "-key", key},
			"", true, onTLS, onHTTP, http, "127.0.0.1:"},
		{"tcp", nil, header, false, onHeader, onEcho, "", client},
		{"smtp", []string{"-patience", "3s"}, header, false, onHeader, onSMTP, "QUIT\r\n",
			"221 bye"},
		{"dns", []string{"-trust", "127.0.0.1"}, header, false, onHeader, onDNS, query, client},
	}
}

// Whatever a stranger does to a copy of an example, his connection is closed in the end, and others
// are served meanwhile.
func TestAttackedExamples(t *testing.T) {
	binaries := map[string]string{}
	back, _ := program.StartCommand(t, exec.Command(build(t, binaries, "httpserver"),
		"-listen", "127.0.0.1:0"))
	type result struct{ victim, attack, outcome string }
	var results []result
	var mu sync.Mutex
	var playing sync.WaitGroup
	play := func(victim, attack string, outcome func() string) {
		playing.Go(func() {
			start := time.Now()
			o := outcome()
			t.Logf("%v: %s %s: %s", time.Since(start).Round(time.Second/10), victim, attack, o)
			mu.Lock()
			defer mu.Unlock()
			results = append(results, result{victim, attack, o})
		})
	}
	all, addrs := victims(t, back), map[string]string{}
	for _, v := range all {
		binary := build(t, binaries, strings.Fields(v.name)[0])
		addr, _ := v.start(t, binary, "")
		addrs[v.name] = addr
		for _, a := range v.outside {
			play(v.name, a.name, func() string { return a.play(addr, "", false) })
		}
		for _, a := range v.inside {
			play(v.name, a.name+" (inside)", func() string { return a.play(addr, v.first, v.tls) })
		}
		play(v.name, "attacked", func() string { return v.serves(addr) })
		scarce, lines := v.start(t, binary, fmt.Sprintf("ulimit -n %d;", descriptors))
		play(v.name, "without descriptors",
			func() string { return v.servesPastCrowd(scarce, lines) })
	}
	t.Logf("%d programs are attacked, for some 60 s", len(all))
	playing.Wait()
	for _, v := range all { // a program that has ended has closed everything, too
		play(v.name, "afterwards", func() string { return v.serves(addrs[v.name]) })
	}
	playing.Wait()
	for _, r := range results {
		want := "closed"
		if slices.Contains([]string{"attacked", "without descriptors", "afterwards"}, r.attack) {
			want = "served"
		}
		t.Run(r.victim+"/"+r.attack, func(t *testing.T) { assert.Equal(t, want, r.outcome) })
	}
}

// descriptors are few, for a program and those who connect to it.
const descriptors = 32

// servesPastCrowd says whether somebody is served after more peers than there are descriptors for,
// who say nothing and stay.
func (v victim) servesPastCrowd(addr string, lines <-chan string) (outcome string) {
	for range 2 * descriptors {
		c, err := dial(addr, "", false)
		if err != nil {
			return err.Error()
		}
		defer c.Close()
	}
	for line := range lines {
		if strings.Contains(line, "too many open files") {
			break
		}
	}
	for start := time.Now(); time.Since(start) < proxies.Timeout; time.Sleep(
		100 * time.Millisecond) {
		// A relay with one descriptor left can't connect for him.
		if outcome = v.serves(addr); outcome == "served" {
			break
		}
	}
	return outcome
}

// serves says whether somebody is served.
func (v victim) serves(addr string) (outcome string) {
	c, err := dial(addr, v.first, v.tls)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	if _, err := io.WriteString(c, v.ask); err != nil {
		return err.Error()
	}
	var answer []byte
	for !strings.Contains(string(answer), v.answer) {
		b := make([]byte, 1000)
		n, err := c.Read(b)
		answer = append(answer, b[:n]...)
		if err != nil {
			return fmt.Sprintf("%q, %v", answer, err)
		}
	}
	return "served"
}

// start starts the program as a shell does that has run a command before.
func (v victim) start(t *testing.T, binary, before string) (addr string, lines <-chan string) {
	t.Helper()
	args := v.args
	command := exec.Command("sh")
	switch v.name {
	case "systemd":
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close()
		socket, err := ln.(*net.TCPListener).File()
		require.NoError(t, err)
		defer socket.Close()
		command.ExtraFiles = []*os.File{socket} // descriptor 3
		before += "LISTEN_FDS=1 LISTEN_PID=$$ "
	case "unixsocket":
		args = append(args, "-listen", filepath.Join(t.TempDir(), "socket"))
	default:
		args = append(args, "-listen", "127.0.0.1:0")
	}
	command.Args = append(command.Args, "-c", before+`exec "$0" "$@"`, binary)
	command.Args = append(command.Args, args...)
	return program.StartCommand(t, command)
}

// build builds an example, once.
func build(t *testing.T, binaries map[string]string, name string) string {
	t.Helper()
	if binaries[name] == "" {
		path := filepath.Join(t.TempDir(), name)
		out, err := exec.Command("go", "build", "-C", "../../examples/"+name, "-o", path, ".").
			CombinedOutput()
		require.NoError(t, err, "%s", out)
		binaries[name] = path
	}
	return binaries[name]
}

// No example that serves streams is forgotten.
func TestAllExamplesAreAttacked(t *testing.T) {
	others := map[string]bool{
		"quickstart": true,                // serves nobody else
		"udprelay":   true, "http3": true, // datagrams
		"frameworks": true, // which need a program in front
	}
	attacked := map[string]bool{}
	for _, v := range victims(t, "") {
		attacked[strings.Fields(v.name)[0]] = true
	}
	folders, err := filepath.Glob("../../examples/*")
	require.NoError(t, err)
	require.NotEmpty(t, folders)
	for _, folder := range folders {
		name := filepath.Base(folder)
		assert.True(t, attacked[name] != others[name], name)
	}
}

// A flag that makes no sense is said by name, and nobody is served.
func TestFlagsOfExamples(t *testing.T) {
	binaries := map[string]string{}
	for _, args := range [][]string{
		{"limit", "-most", "-1"}, {"limit", "-most", "0"}, {"https", "-key", "key.pem"},
		{"https", "-cert", "cert.pem"}, {"dns", "-trust", ""}, {"udprelay", "-clients", "0"},
		{"udprelay", "-silence", "-1s"}, {"observe", "-stats", "nonsense"},
	} {
		command := exec.Command(build(t, binaries, args[0]), args[1:]...)
		command.Args = append(command.Args, "-listen", "127.0.0.1:0")
		out, err := command.CombinedOutput()
		assert.Error(t, err, "%q", args)
		assert.Contains(t, string(out), args[1], "%q", args)
		assert.NotContains(t, string(out), "panic", "%q", args)
	}
}
