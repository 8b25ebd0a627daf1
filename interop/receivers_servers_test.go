package interop

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// A server of others expects a header at the start of a connection, and says behind it whose
// connection it takes it for.
type server struct {
	name           string
	version        []string                             // the command that prints it
	start          func(t *testing.T, addr string) asks // starts it at addr
	http           bool                                 // whether it answers to requests
	refusesUnknown bool                                 // version 1's UNKNOWN, which the spec allows
	longest        int                                  // the longest header that it takes, if that matters here
}

// asks has the question put to the server over a connection. It returns errRefused if there is no
// answer.
type asks func(c net.Conn) (answer, error)

// An answer is what the server said. What it can't say is the zero value.
type answer struct {
	client, destination netip.AddrPort
	authority, uniqueID string // of the TLVs
}

// String is the client, and what else the server said.
func (a answer) String() string {
	s := a.client.String()
	if a.destination.IsValid() {
		s += " -> " + a.destination.String()
	}
	for _, tlv := range []string{a.authority, a.uniqueID} {
		if tlv != "" {
			s += ", " + tlv
		}
	}
	return s
}

var errRefused = errors.New("closed without an answer")

var servers = []server{
	{"HAProxy, accept-proxy", []string{"haproxy", "-v"}, haproxyAsReceiver, true, false, 0},
	{"nginx, http", []string{"nginx", "-v"}, nginxHTTPAsReceiver, true, false, 0},
	{"nginx, stream", []string{"nginx", "-v"}, nginxStreamAsReceiver, false, false, 107},
	{"varnish, -a PROXY", []string{"varnishd", "-V"}, varnishAsReceiver, true, true, 0},
	{"Apache, RemoteIPProxyProtocol", []string{"apache2", "-v"}, apacheAsReceiver, false, true, 0},
	{"postfix, smtpd_upstream_proxy_protocol", []string{"postconf", "-d", "mail_version"}, postfixAsReceiver, false, true, 0},
}

func haproxyAsReceiver(t *testing.T, addr string) asks {
	proxies.StartHAProxy(t, fmt.Sprintf(`
frontend receiver
	mode http
	no log
	bind %s accept-proxy
	http-request return status 200 content-type text/plain lf-string "%%[src]|%%[src_port]|%%[dst]|%%[dst_port]|%%[fc_pp_authority]|%%[fc_pp_unique_id]"
`, addr), nil)
	return askOverHTTP
}

const nginxAnswer = "$remote_addr|$remote_port|$proxy_protocol_server_addr|$proxy_protocol_server_port||"

func nginxHTTPAsReceiver(t *testing.T, addr string) asks {
	proxies.StartNginxHTTP(t, fmt.Sprintf(`
	server {
		listen %s proxy_protocol;
		set_real_ip_from 127.0.0.0/8;
		real_ip_header proxy_protocol;
		location / {
			return 200 "%s";
		}
	}
`, addr, nginxAnswer))
	return askOverHTTP
}

func nginxStreamAsReceiver(t *testing.T, addr string) asks {
	proxies.StartNginx(t, fmt.Sprintf(`
	server {
		listen %s proxy_protocol;
		set_real_ip_from 127.0.0.0/8;
		return "%s";
	}
`, addr, nginxAnswer), nil)
	return func(c net.Conn) (answer, error) {
		b, _ := io.ReadAll(c)
		return parseAnswer(string(b))
	}
}

func varnishAsReceiver(t *testing.T, addr string) asks {
	proxies.StartVarnish(t, addr, `
import proxy;
import std;
sub vcl_recv { return (synth(200)); }
sub vcl_synth {
	set resp.body = "" + client.ip + "|" + std.port(client.ip) + "|" + server.ip + "|" + std.port(server.ip) + "|" + proxy.authority() + "|";
	return (deliver);
}
`)
	return askOverHTTP
}

// Apache knows the port only when it writes the log.
func apacheAsReceiver(t *testing.T, addr string) asks {
	apache := proxies.StartApache(t, addr, `
RemoteIPProxyProtocol On
LogFormat "%U %a|%{remote}p|||| end" client
CustomLog access.log client
`)
	var n atomic.Int64
	return func(c net.Conn) (answer, error) {
		path := fmt.Sprintf("/%d", n.Add(1))
		if _, err := get(bufio.NewReader(c), c, path, "close"); err != nil {
			return answer{}, err
		}
		logged, err := apache.Logged(regexp.MustCompile(`(?m)^` + path + ` (\S+) end$`))
		if err != nil {
			return answer{}, err
		}
		return parseAnswer(logged[1])
	}
}

var postfixFooter = regexp.MustCompile(`client=\[(.*)\]:(\d+)$`)

func postfixAsReceiver(t *testing.T, addr string) asks {
	proxies.StartPostfix(t, addr, `
smtpd_upstream_proxy_protocol = haproxy
smtpd_client_port_logging = yes
smtpd_reject_footer = client=[$client_address]:$client_port
`)
	return func(c net.Conn) (answer, error) {
		text := textproto.NewConn(c)
		if _, _, err := text.ReadResponse(220); err != nil {
			return answer{}, fmt.Errorf("%w: %w", errRefused, err)
		}
		for _, line := range []struct {
			says string
			code int
		}{{"EHLO client.interop.test", 250}, {"MAIL FROM:<a@interop.test>", 250}} {
			if err := text.PrintfLine("%s", line.says); err != nil {
				return answer{}, err
			}
			if _, _, err := text.ReadResponse(line.code); err != nil {
				return answer{}, err
			}
		}
		if err := text.PrintfLine("RCPT TO:<b@interop.test>"); err != nil {
			return answer{}, err
		}
		_, refusal, err := text.ReadResponse(554)
		if err != nil {
			return answer{}, err
		}
		said := postfixFooter.FindStringSubmatch(refusal)
		if said == nil {
			return answer{}, fmt.Errorf("postfix answered %q", refusal)
		}
		return parseAnswer(said[1] + "|" + said[2] + "||||")
	}
}

func askOverHTTP(c net.Conn) (answer, error) {
	body, err := get(bufio.NewReader(c), c, "/", "close")
	if err != nil {
		return answer{}, err
	}
	return parseAnswer(body)
}

// get sends a request and returns the body of the response.
func get(r *bufio.Reader, c net.Conn, path, connection string) (string, error) {
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: interop.test\r\nConnection: %s\r\n\r\n", path, connection)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errRefused, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// parseAnswer reads client|port|destination|port|authority|unique ID.
func parseAnswer(said string) (answer, error) {
	if said == "" {
		return answer{}, errRefused
	}
	fields := strings.Split(strings.TrimSpace(said), "|")
	if len(fields) != 6 {
		return answer{}, fmt.Errorf("the server said %q", said)
	}
	client, err := parseAddrPort(fields[0], fields[1])
	if err != nil {
		return answer{}, fmt.Errorf("the server said %q: %w", said, err)
	}
	destination, err := parseAddrPort(fields[2], fields[3])
	if err != nil {
		return answer{}, fmt.Errorf("the server said %q: %w", said, err)
	}
	return answer{client, destination, fields[4], strings.TrimPrefix(fields[5], "-")}, nil
}

// parseAddrPort reads an address in any of the forms that servers write, as plain IPv4 if it is
// one that was mapped; nothing is the zero value.
func parseAddrPort(addr, port string) (netip.AddrPort, error) {
	if addr == "" || addr == "-" {
		return netip.AddrPort{}, nil
	}
	ap, err := netip.ParseAddrPort(net.JoinHostPort(addr, port))
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), err
}
