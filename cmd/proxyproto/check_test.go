package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// checked runs check with --json.
func checked(t *testing.T, args ...string) (checkReport, result) {
	t.Helper()
	r := runProgram(t, "", append([]string{"check", "--json", "--patience", "100ms", "--wait",
		"10s"}, args...)...)
	var report checkReport
	if r.code != exitNetwork {
		require.NoError(t, json.Unmarshal([]byte(r.stdout), &report), "%s", r.stderr)
		assert.LessOrEqual(t, report.Connections, maxProbes)
		assert.Equal(t, "127.0.0.1", report.From)
	}
	return report, r
}

// behind returns a listener of the library's with this Action.
func behind(t *testing.T, action proxyproto.Action) net.Listener {
	t.Helper()
	ln, err := proxyproto.NewListener(listen(t, "tcp", "127.0.0.1:0"), &proxyproto.Config{
		Policy: proxyproto.Always(action), HeaderTimeout: time.Minute,
	})
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln
}

// eachConn serves every connection of a listener.
func eachConn(ln net.Listener, serve func(c net.Conn)) string {
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return ln.Addr().String()
}

func smtp(c net.Conn) {
	fmt.Fprint(c, "220-mx\r\n220 mx\r\n")
	for lines := bufio.NewScanner(c); lines.Scan(); {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, "EHLO "):
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			fmt.Fprintf(c, "250-mx greets [%s]\r\n250 HELP\r\n", host)
		case line == "QUIT":
			fmt.Fprint(c, "221 bye\r\n")
			return
		default:
			fmt.Fprint(c, "500 what?\r\n")
		}
	}
}

func ssh(c net.Conn) {
	fmt.Fprint(c, "SSH-2.0-test\r\n")
	line, err := bufio.NewReader(c).ReadString('\n')
	switch {
	case err != nil:
	case strings.HasPrefix(line, "SSH-2.0-"):
		c.Write([]byte{0, 0, 0, 12, 10, 20})
		io.Copy(io.Discard, c)
	default:
		fmt.Fprint(c, "Invalid SSH identification string.\r\n")
	}
}

// TestCheckProtocols: it finds out what a server speaks, and what it wants, under each Action.
func TestCheckProtocols(t *testing.T) {
	whoami := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w,
			r.RemoteAddr)
	})
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS()
	t.Cleanup(cert.Close)
	for protocol, start := range map[string]func(ln net.Listener) string{
		"http": func(ln net.Listener) string {
			srv := &http.Server{Handler: whoami}
			go srv.Serve(ln)
			t.Cleanup(func() { srv.Close() })
			return ln.Addr().String()
		},
		"tls": func(ln net.Listener) string {
			return eachConn(ln, func(c net.Conn) {
				tls.Server(c,
					&tls.Config{Certificates: cert.TLS.Certificates}).Handshake()
			})
		},
		"smtp": func(ln net.Listener) string { return eachConn(ln, smtp) },
		"ssh":  func(ln net.Listener) string { return eachConn(ln, ssh) },
	} {
		for action, want := range map[proxyproto.Action]struct {
			policy string
			code   int
		}{
			proxyproto.Require: {policyRequired, exitOK},
			proxyproto.Skip:    {policyNone, exitNoHeader},
			proxyproto.Reject:  {policyRefused, exitIncomplete},
		} {
			t.Run(fmt.Sprint(protocol, " ", action), func(t *testing.T) {
				t.Parallel()
				addr := start(behind(t, action))
				args := []string{addr}
				if action == proxyproto.Reject || protocol == "smtp" &&
					action == proxyproto.Require {
					args = append(args, "--"+protocol) // it says nothing by which one could know
				}
				if protocol == "ssh" || protocol == "smtp" {
					// A server that speaks first waits for ever for a header.
					args = append(args, "--wait", "2s")
				}
				report, r := checked(t, args...)
				assert.Equal(t, want.policy, report.Policy, "%+v", report)
				assert.Equal(t, protocol, report.Protocol)
				assert.Equal(t, want.code, r.code, r.stdout)
				if want.policy == policyRequired {
					assert.Equal(t, []string{"v1", "v2"}, report.Versions)
					for _, name := range []string{"unknown", "local", "udp", "tlv", "split-v1",
						"split-v2", "late"} {
						assert.Equal(t, taken, report.outcome(name), name)
					}
					for _, name := range []string{"bad-crc", "second", "endless"} {
						assert.Equal(t, refused, report.outcome(name), name)
					}
					believed := map[string]string{"http": "yes", "smtp": "yes"}[protocol]
					assert.Equal(t, believed == "yes", report.Believed == "yes", report.Believed)
				}
			})
		}
	}
}

// TestCheckWhoMayLie: Optional is a finding, Ignore is told from it by what the server shows.
func TestCheckWhoMayLie(t *testing.T) {
	for action, policy := range map[proxyproto.Action]string{
		proxyproto.Optional: policyOptional, proxyproto.Ignore: policyIgnored,
	} {
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter,
			r *http.Request) {
			fmt.Fprintln(w, r.RemoteAddr)
		})}
		ln := behind(t, action)
		go srv.Serve(ln)
		defer srv.Close()
		report, r := checked(t, ln.Addr().String())
		assert.Equal(t, policy, report.Policy)
		var broken []string
		for _, f := range report.Findings {
			if f.Level == breaks {
				broken = append(broken, f.Probe+" "+f.Section)
			}
		}
		if action == proxyproto.Optional {
			assert.Equal(t, exitMalformed, r.code)
			assert.Equal(t, []string{"none 2"}, broken)
			assert.Contains(t, report.Verdict, "whoever calls from there may be anybody")
		} else {
			assert.Equal(t, exitOK, r.code)
			assert.Empty(t, broken)
		}
	}
}

// TestCheckFindings: a receiver that does everything wrong is told so, each with its section.
func TestCheckFindings(t *testing.T) {
	addr := eachConn(listen(t, "tcp", "127.0.0.1:0"), func(c net.Conn) {
		r := bufio.NewReaderSize(c, 1<<17)
		c.SetReadDeadline(time.Now().Add(time.Second)) // not 3
		for n := 0; ; n++ {
			r.Peek(1)
			b, _ := r.Peek(r.Buffered())
			h, size, err := proxyproto.Parse(b)
			switch {
			case err == nil && (h.Command == proxyproto.Local ||
				strings.Contains(string(h.TLVs), "value")):
				return
			case err == nil:
				r.Discard(size)
				continue
			case n == 0 && strings.HasPrefix(string(b), "PROXY "): // without end
				c.SetReadDeadline(time.Time{})
				io.Copy(io.Discard, r)
				return
			case n == 0:
				return
			}
			break
		}
		if _, err := http.ReadRequest(r); err == nil {
			io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	})
	report, r := checked(t, "--http", "--wait", "2s", addr)
	assert.Equal(t, exitMalformed, r.code)
	found := map[string]string{}
	for _, f := range report.Findings {
		found[f.Probe] = f.Level + " " + f.Section
		assert.NotEmpty(t, f.Text)
	}
	assert.Equal(t, breaks+" 2.2", found["local"])
	assert.Equal(t, breaks+" 2.2", found["tlv"])
	assert.Equal(t, breaks+" 2", found["second"])
	assert.Equal(t, breaks+" 2", found["late"])
	assert.Equal(t, should+" 2.1", found["endless"])
	assert.Equal(t, should+" 2", found["split-v2"])
}

// TestCheckWhatIsntThere: who isn't there, never answers, or speaks something else.
func TestCheckWhatIsntThere(t *testing.T) {
	nobody := listen(t, "tcp", "127.0.0.1:0")
	nobody.Close()
	_, r := checked(t, nobody.Addr().String())
	assert.Equal(t, exitNetwork, r.code)
	assert.Equal(t, "proxyproto check: "+nobody.Addr().String()+": connection refused: nobody "+
		"listens there\n", r.stderr)
	assert.Empty(t, r.stdout)
	_, r = checked(t, "nobody.invalid:80")
	assert.Equal(t, exitNetwork, r.code)
	assert.Contains(t, r.stderr, "can't find the host")

	silent := eachConn(listen(t, "tcp", "127.0.0.1:0"), func(c net.Conn) { io.Copy(io.Discard, c) })
	report, r := checked(t, "--wait", "100ms", silent)
	assert.Equal(t, exitIncomplete, r.code)
	assert.Equal(t, policyUnknown, report.Policy)

	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	report, r = checked(t, "--tls", plain.Listener.Addr().String())
	assert.Equal(t, policyRefused, report.Policy)
	assert.Contains(t, r.stdout, "not TLS")
	assert.Contains(t, report.Verdict, "or the question is the wrong one")
}

// TestCheckIsHarmless: what it sends on a connection is little, and there is one at a time.
func TestCheckIsHarmless(t *testing.T) {
	sizes := make(chan int, maxProbes+1)
	addr := plainServer(t, func(c *net.TCPConn) { // one at a time, or it would hang
		c.SetReadDeadline(time.Now().Add(time.Minute))
		r := bufio.NewReader(c)
		n := 0
		if h, err := proxyproto.ReadHeader(r); err == nil {
			b, _ := h.AppendTo(nil)
			n = len(b)
			if req, err := http.ReadRequest(r); err == nil {
				n += len(req.UserAgent()) + 100
				io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
			}
		}
		sizes <- n + r.Buffered()
	})
	report, _ := checked(t, "--http", "--wait", "2s", addr)
	assert.LessOrEqual(t, len(sizes), report.Connections)
	for range len(sizes) {
		assert.Less(t, <-sizes, 1000)
	}
}
