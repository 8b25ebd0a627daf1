package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A site is a way from wrk to a keep-alive HTTP server.
type site struct {
	name    string
	kind    string
	proxied bool // through HAProxy
	sendsV2 bool // with send-proxy-v2
}

const (
	siteOurs   = "HAProxy send-proxy-v2, proxyproto"
	siteBare   = "HAProxy without, bare"
	sitePires  = "HAProxy send-proxy-v2, pires"
	siteDirect = "no HAProxy, bare"

	unitRate    = "requests/s"
	webRequests = "keep-alive"
)

var sites = []site{
	{name: siteOurs, kind: nameOurs, proxied: true, sendsV2: true},
	{name: siteBare, kind: nameBare, proxied: true},
	{name: sitePires, kind: namePires, proxied: true, sendsV2: true},
	{name: siteDirect, kind: nameBare},
}

// measureWeb has wrk ask each site in turn.
func measureWeb(m *measuring) {
	haproxy, wrk := program("haproxy", "haproxy"), program("wrk", "wrk")
	server := m.start("server", anyCPU, urgent)
	defer server.stop()
	config := "global\n  nbthread 1\ndefaults\n  mode tcp\n" +
		"  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
	urls := make([]string, len(sites))
	for i, s := range sites {
		backend := server.ask(request{Op: "listen", Kind: s.kind, Handler: "http"}).Addr
		urls[i] = backend
		if s.proxied {
			urls[i] = freeAddr()
			option := ""
			if s.sendsV2 {
				option = " send-proxy-v2"
			}
			config += fmt.Sprintf("listen l%d\n  bind %s\n  server s %s%s\n", i, urls[i], backend, option)
		}
	}
	file := filepath.Join(m.dir, "haproxy.cfg")
	check(os.WriteFile(file, []byte(config), 0o600))
	proxy := exec.Command(haproxy, "-db", "-f", file)
	proxy.Stderr = os.Stderr
	check(proxy.Start())
	defer func() {
		proxy.Process.Kill()
		proxy.Wait()
	}()
	for _, url := range urls {
		awaitListener(url)
	}
	each := time.Duration(m.many(2, 1)) * time.Second // wrk takes whole seconds only
	m.inTurn(m.many(5, 1), len(sites), func(i int) {
		out, err := exec.Command(wrk, "-t1", "-c32", "-d"+each.String(), "--latency",
			"http://"+urls[i]+"/").CombinedOutput()
		if err != nil {
			check(fmt.Errorf("wrk: %w\n%s", err, out))
		}
		rate, latency := parseWrk(string(out))
		m.add(webRequests, sites[i].name, unitRate, rate)
		m.add(webRequests, sites[i].name, unitP99, latency)
	})
}

// freeAddr returns an address that nobody listens on.
func freeAddr() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	defer ln.Close()
	return ln.Addr().String()
}

func awaitListener(addr string) {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			check(err)
		}
	}
}

var (
	wrkRate    = regexp.MustCompile(`Requests/sec: +([0-9.]+)`)
	wrkLatency = regexp.MustCompile(`99% +([0-9.]+[a-z]+)`)
	wrkErrors  = regexp.MustCompile(`(?m)^ *(Socket errors|Non-2xx).*$`)
)

func parseWrk(out string) (rate, latency float64) {
	r, l := wrkRate.FindStringSubmatch(out), wrkLatency.FindStringSubmatch(out)
	if r == nil || l == nil || wrkErrors.MatchString(out) {
		check(fmt.Errorf("wrk: %s", out))
	}
	rate, err := strconv.ParseFloat(r[1], 64)
	check(err)
	d, err := time.ParseDuration(strings.TrimSpace(l[1]))
	check(err)
	return rate, float64(d.Nanoseconds())
}
