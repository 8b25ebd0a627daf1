package proxies

import (
	"encoding/csv"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// HAProxy is a running HAProxy.
type HAProxy struct {
	*Process
	socket string
}

// StartHAProxy starts an HAProxy with the given sections after a global and a defaults section of
// its own. Files are written into its directory, which is where relative paths in the
// configuration lead.
func StartHAProxy(t testing.TB, sections string, files map[string]string) *HAProxy {
	t.Helper()
	all := map[string]string{"haproxy.cfg": `
global
	log stderr format raw local0 notice
	maxconn 4000
	nbthread 2
	stats socket unix@stats.sock mode 600 level admin

defaults
	log global
	mode tcp
	timeout connect 60s
	timeout client 120s
	timeout server 120s
	timeout check 60s

` + sections + "\n"}
	for name, content := range files {
		all[name] = content
	}
	dir := Dir(t, all)
	socket := filepath.Join(dir, "stats.sock")
	return &HAProxy{
		Process: Start(t, Spec{
			Program: "haproxy",
			Args:    []string{"-db", "-f", "haproxy.cfg"},
			Dir:     dir,
			Ready:   Dials("unix", socket),
		}),
		socket: socket,
	}
}

// Command gives a command to the stats socket and returns the answer.
func (p *HAProxy) Command(t testing.TB, command string) string {
	t.Helper()
	c, err := net.DialTimeout("unix", p.socket, Timeout)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(Timeout)))
	_, err = io.WriteString(c, command+"\n")
	require.NoError(t, err)
	answer, err := io.ReadAll(c)
	require.NoError(t, err)
	return string(answer)
}

// Servers returns a row of `show stat` for each server, by "backend/server", with its columns by
// name.
func (p *HAProxy) Servers(t testing.TB) map[string]map[string]string {
	t.Helper()
	answer := strings.TrimPrefix(p.Command(t, "show stat -1 4 -1"), "# ")
	rows, err := csv.NewReader(strings.NewReader(strings.TrimSpace(answer) + "\n")).ReadAll()
	require.NoError(t, err)
	require.NotEmpty(t, rows)
	servers := map[string]map[string]string{}
	for _, row := range rows[1:] {
		columns := map[string]string{}
		for i, name := range rows[0] {
			columns[name] = row[i]
		}
		servers[columns["pxname"]+"/"+columns["svname"]] = columns
	}
	return servers
}
