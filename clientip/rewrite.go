package clientip

import (
	"net/http"
	"net/textproto"
	"strings"
)

const (
	fieldConnection      = "Connection"
	fieldXForwardedFor   = "X-Forwarded-For"
	fieldXForwardedProto = "X-Forwarded-Proto"
	fieldXForwardedHost  = "X-Forwarded-Host"
	fieldXRealIP         = "X-Real-Ip"
	fieldForwarded       = "Forwarded"

	prefixXForwarded = "X-Forwarded-"
)

// clientFields are the fields besides X-Forwarded- ones by which programs look for a client.
var clientFields = map[string]bool{
	fieldForwarded:              true,
	fieldXRealIP:                true,
	"Ali-Cdn-Real-Ip":           true,
	"Cdn-Src-Ip":                true,
	"Cf-Connecting-Ip":          true,
	"Cf-Connecting-Ipv6":        true,
	"Cf-Pseudo-Ipv4":            true,
	"Client-Ip":                 true,
	"Do-Connecting-Ip":          true,
	"Fastly-Client-Ip":          true,
	"Fly-Client-Ip":             true,
	"Forwarded-For":             true,
	"Incap-Client-Ip":           true,
	"Proxy-Client-Ip":           true,
	"Remote-Addr":               true,
	"True-Client-Ip":            true,
	"Wl-Proxy-Client-Ip":        true,
	"X-Appengine-Remote-Addr":   true,
	"X-Appengine-User-Ip":       true,
	"X-Azure-Clientip":          true,
	"X-Azure-Socketip":          true,
	"X-Client-Ip":               true,
	"X-Cluster-Client-Ip":       true,
	"X-Envoy-External-Address":  true,
	"X-Forwarded":               true,
	"X-Nf-Client-Connection-Ip": true,
	"X-Original-Forwarded-For":  true,
	"X-Originating-Ip":          true,
	"X-Proxyuser-Ip":            true,
	"X-Remote-Addr":             true,
	"X-Remote-Ip":               true,
	"X-Vercel-Forwarded-For":    true,
	"X-Vercel-Proxied-For":      true,
}

// rewriteFields gives the request a Header of its own, whose forwarding fields are true.
func (h *handler) rewriteFields(p *passed) {
	fields := make(http.Header, len(p.request.Header)+4)
	for name, lines := range p.request.Header {
		if name == fieldConnection {
			lines = h.rewriteConnection(lines)
		}
		if len(lines) > 0 && h.keeps(p, name, lines) {
			fields[name] = lines
		}
	}
	p.request.Header = fields
	if !p.client.Addr.IsValid() {
		return
	}
	addr := p.client.Addr.String()
	forwarded := "for=" + addr
	if p.client.Addr.Is6() {
		forwarded = `for="[` + addr + `]"`
	}
	if p.https {
		forwarded += ";proto=https"
	} else {
		forwarded += ";proto=http"
	}
	values := []string{addr, addr, addr, forwarded}
	fields[h.field] = values[0:1:1]
	fields[fieldXForwardedFor] = values[1:2:2]
	fields[fieldXRealIP] = values[2:3:3]
	fields[fieldForwarded] = values[3:4:4]
}

// keeps reports whether a field reaches the next handler as it came.
func (h *handler) keeps(p *passed, name string, lines []string) bool {
	meant := meaning(name)
	switch {
	case !h.isForwarding(meant):
		return true
	case !p.client.Proxied || meant != name || !strings.HasPrefix(name, prefixXForwarded):
		return false
	case name == h.field || name == fieldXForwardedFor:
		return false
	case name == fieldXForwardedHost:
		return len(lines) == 1 && !strings.Contains(lines[0], ",")
	case name == fieldXForwardedProto:
		said := oneProto(lines)
		return said != protoUnsaid && (said == protoHTTPS) == p.https
	}
	return true
}

// meaning returns the canonical form of a name, with hyphens for underscores: to CGI programs
// behind the handler the two are one.
func meaning(name string) string {
	return textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-"))
}

// isForwarding reports whether a field says, or could be taken to say, where a request came from.
func (h *handler) isForwarding(name string) bool {
	return name == h.field || clientFields[name] || strings.HasPrefix(name, prefixXForwarded)
}

// rewriteConnection takes forwarding fields out of Connection. A client that names them there would
// have the next proxy, an httputil.ReverseProxy for example, remove them.
func (h *handler) rewriteConnection(lines []string) []string {
	var kept []string
	for _, line := range lines {
		for option := range strings.SplitSeq(line, ",") {
			option = trim(option)
			if option != "" && !h.isForwarding(meaning(option)) {
				kept = append(kept, option)
			}
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return []string{strings.Join(kept, ", ")}
}
