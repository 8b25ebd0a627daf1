package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/program"
)

// plainServer serves connections of which nobody has taken a header off.
func plainServer(t *testing.T, serve func(c *net.TCPConn)) string {
	t.Helper()
	ln := listen(t, "tcp", "127.0.0.1:0")
	served := make(chan struct{})
	t.Cleanup(func() { ln.Close(); <-served })
	go func() {
		defer close(served)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			serve(c.(*net.TCPConn))
			c.Close()
		}
	}()
	return ln.Addr().String()
}

// TestSendSaysWhatCameBack: what isn't an answer is said as curl says it, with an exit code.
func TestSendSaysWhatCameBack(t *testing.T) {
	closes := plainServer(t, func(c *net.TCPConn) { io.Copy(io.Discard, c) })
	hangsUp := plainServer(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		if _, err := proxyproto.ReadHeader(r); err == nil {
			http.ReadRequest(r)
		}
	})
	resets := plainServer(t, func(c *net.TCPConn) { c.Read(make([]byte, 1)); c.SetLinger(0) })
	breaks := plainServer(t, func(c *net.TCPConn) {
		io.WriteString(c, "hello")
		c.Read(make([]byte, 1))
		c.SetLinger(0)
	})
	plain := plainServer(t, func(c *net.TCPConn) {
		c.Read(make([]byte, 1))
		io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
		io.Copy(io.Discard, c)
	})
	silent := listen(t, "tcp", "127.0.0.1:0")
	defer silent.Close()
	nobody := listen(t, "tcp", "127.0.0.1:0")
	nobody.Close()
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{closes}, exitEmpty, "empty reply: the server has closed the connection without " +
			"sending a byte"},
		{[]string{"http://" + hangsUp + "/"}, exitEmpty, "empty reply"},
		{[]string{resets}, exitNetwork, "the server has reset the connection after 0 bytes of " +
			"answer"},
		{[]string{breaks}, exitNetwork, "the server has reset the connection"},
		{[]string{"--wait", "100ms", silent.Addr().String()}, exitNetwork,
			"no answer within 100ms"},
		{[]string{"--wait", "100ms", "http://" + silent.Addr().String()}, exitNetwork,
			"no answer within 100ms"},
		{[]string{"--wait", "0", silent.Addr().String()}, exitOK, ""},
		{[]string{"--tls", "--timeout", "100ms", silent.Addr().String()}, exitNetwork,
			"no TLS handshake within 100ms"},
		{[]string{"--tls", plain}, exitNetwork,
			`the server doesn't speak TLS there: it answered "HTTP/`},
		{[]string{nobody.Addr().String()}, exitNetwork, "connection refused: nobody listens there"},
		{[]string{"http://" + nobody.Addr().String()}, exitNetwork,
			"connection refused: nobody listens there"},
		{[]string{"nobody.invalid:80"}, exitNetwork, `can't find the host "nobody.invalid"`},
	} {
		r := runProgram(t, "hello\n", append([]string{"send"}, c.args...)...)
		assert.Equal(t, c.code, r.code, "%v: %s", c.args, r.stderr)
		assert.Contains(t, r.stderr, c.says, c.args)
		assert.LessOrEqual(t, strings.Count(r.stderr, "\n"), 1, c.args)
	}
}

func TestSendCRLF(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0")
	serveOnce(t, ln, func(c net.Conn) { io.Copy(c, c) })
	r := runProgram(t, "one\ntwo\r\n\nend", "send", "--crlf", ln.Addr().String())
	assert.Equal(t, result{"one\r\ntwo\r\n\r\nend", "", 0}, r)

	both, err := io.ReadAll(&crlfReader{in: io.MultiReader(strings.NewReader("a\r"),
		strings.NewReader("\nb"))})
	require.NoError(t, err)
	assert.Equal(t, "a\r\nb", string(both), "the pair came in two reads")
}

func TestSendHex(t *testing.T) {
	args := []string{"--source", "192.0.2.7:56324", "--destination", "198.51.100.1:443"}
	shown := runProgram(t, "", append([]string{"send", "--hex"}, args...)...)
	assert.Equal(t, 0, shown.code)
	assert.True(t, strings.HasPrefix(shown.stdout,
		"00000000  0d 0a 0d 0a 00 0d 0a 51  55 49 54 0a 21 11 00 0c  |.......QUIT.!...|\n"),
		shown.stdout)
	read := runProgram(t, shown.stdout, "decode", "--hex")
	assert.Contains(t, read.stdout, "valid: v2 PROXY TCP4 192.0.2.7:56324 -> 198.51.100.1:443\n")
}

// headerServer is an HTTP server that requires headers, and answers with the client's address.
func headerServer(t *testing.T, tls bool) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Seen", r.URL.Path)
		w.(http.Flusher).Flush() // chunked
		fmt.Fprintf(w, "%s %s %s\n", r.Method, r.RemoteAddr, r.Host)
	}))
	ln, err := proxyproto.NewListener(srv.Listener,
		&proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require)})
	require.NoError(t, err)
	srv.Listener = ln
	if tls {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	return srv
}

// TestSendHTTP: the response is printed as it is meant, without its chunks.
func TestSendHTTP(t *testing.T) {
	for _, tls := range []bool{false, true} {
		srv := headerServer(t, tls)
		r := runProgram(t, "", "send", "--source", "192.0.2.7:56324", "--insecure", srv.URL+"/path")
		host := strings.TrimPrefix(strings.TrimPrefix(srv.URL, "http://"), "https://")
		assert.Equal(t, 0, r.code, r.stderr)
		assert.True(t, strings.HasPrefix(r.stdout, "HTTP/1.1 200 OK\r\n"), r.stdout)
		assert.Contains(t, r.stdout, "X-Seen: /path\r\n")
		assert.True(t, strings.HasSuffix(r.stdout, "\r\n\r\nGET 192.0.2.7:56324 "+host+"\n"),
			r.stdout)
	}
	srv := headerServer(t, true)
	r := runProgram(t, "", "send", srv.URL)
	assert.Equal(t, exitNetwork, r.code)
	assert.Contains(t, r.stderr, "certificate")
}

// TestSendProxy: curl, or any client that knows HTTP proxies, gets a header in front of its
// requests.
func TestSendProxy(t *testing.T) {
	cmd := exec.Command(executable, "send", "--proxy", "127.0.0.1:0", "--source", "192.0.2.7:56324")
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	wait, err := program.Begin(cmd)
	require.NoError(t, err)
	t.Cleanup(func() { cmd.Process.Kill(); wait() })
	line, err := bufio.NewReader(stderr).ReadString('\n')
	require.NoError(t, err)
	proxy, err := url.Parse("http://" + strings.TrimPrefix(strings.TrimSpace(line),
		"an HTTP proxy listens on "))
	require.NoError(t, err, line)

	for _, tls := range []bool{false, true} {
		srv := headerServer(t, tls)
		client := srv.Client()
		client.Transport.(*http.Transport).Proxy = http.ProxyURL(proxy)
		for range 2 {
			resp, err := client.Get(srv.URL)
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			resp.Body.Close()
			assert.Contains(t, string(body), "GET 192.0.2.7:56324 ")
		}
		client.CloseIdleConnections()
	}
	nobody := listen(t, "tcp", "127.0.0.1:0")
	nobody.Close()
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy),
		DisableKeepAlives: true}}
	resp, err := client.Get("http://" + nobody.Addr().String())
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, http.StatusBadGateway, resp.StatusCode)
	resp, err = http.Get(proxy.String())
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, http.StatusBadRequest, resp.StatusCode)

	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	assert.NoError(t, wait())
}

// TestSendProxyCommand: ssh speaks through send, as far as a server can tell.
func TestSendProxyCommand(t *testing.T) {
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		missing(t, "ssh")
		return
	}
	ln := listen(t, "tcp", "127.0.0.1:0")
	said := make(chan string, 2)
	serveOnce(t, ln, func(c net.Conn) {
		said <- c.RemoteAddr().String()
		io.WriteString(c, "SSH-2.0-test\r\n")
		line, _ := bufio.NewReader(c).ReadString('\n')
		said <- line
	})
	host, port, err := net.SplitHostPort(ln.Addr().String())
	require.NoError(t, err)
	cmd := exec.Command(ssh, "-F", "/dev/null", "-p", port, "-o", "BatchMode=yes",
		"-o", "ProxyCommand="+executable+" send --source 192.0.2.7:56324 %h:%p", host)
	wait, err := program.Begin(cmd)
	require.NoError(t, err)
	assert.Equal(t, "192.0.2.7:56324", <-said)
	assert.True(t, strings.HasPrefix(<-said, "SSH-2.0-OpenSSH"))
	assert.Error(t, wait(), "the server has gone then")
}
