//go:build linux

package kubernetes

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

const page = "../../docs/deploy.md"

// The headings under which docs/deploy.md has rules.
const (
	forLocal   = "#### Local, or IP targets: the balancer's addresses"
	forCluster = "#### Cluster: the nodes' addresses, where every pod may speak for any client"
)

// deployPolicy returns the Policy that docs/deploy.md has under a heading.
func deployPolicy(t *testing.T, heading string) proxyproto.Policy {
	t.Helper()
	b, err := os.ReadFile(page)
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(b), "\n"+heading+"\n")
	require.True(t, found, "docs/deploy.md has no heading %q", heading)
	_, rest, found = strings.Cut(rest, "```json\n")
	require.True(t, found, "no rules under %q", heading)
	block, _, _ := strings.Cut(rest, "```\n")
	var rules []proxyproto.Rule
	require.NoError(t, json.Unmarshal([]byte(block), &rules))
	require.NotEmpty(t, rules)
	return proxyproto.Rules(proxyproto.Reject, rules...)
}

// The tables of docs/deploy.md are those that the other tests have found to be true. DEPLOY=write
// writes them.
func TestDeployPage(t *testing.T) {
	b, err := os.ReadFile(page)
	require.NoError(t, err)
	written := string(b)
	for name, table := range map[string]string{
		"nodes":     nodesTable(),
		"paths":     pathsTable(),
		"forgeries": forgeriesTable(),
	} {
		begin := fmt.Sprintf("<!-- %s: written by DEPLOY=write go test -run TestDeployPage . "+
			"in interop/kubernetes -->\n", name)
		before, rest, found := strings.Cut(written, begin)
		require.True(t, found, "docs/deploy.md doesn't say where the table of %s begins", name)
		_, after, found := strings.Cut(rest, "\n\n")
		require.True(t, found)
		written = before + begin + table + "\n" + after
	}
	if os.Getenv("DEPLOY") == "write" {
		require.NoError(t, os.WriteFile(page, []byte(written), 0o644))
		return
	}
	assert.Equal(t, written, string(b), "run DEPLOY=write go test -run TestDeployPage .")
}

// nodesTable is what the nodes' addresses are in each layout.
func nodesTable() string {
	var b strings.Builder
	b.WriteString("| pods of a node | nodes | N1, IPv4 | N1, IPv6 | N2, IPv4 | N2, IPv6 |\n" +
		"|---|---|---|---|---|---|\n")
	for _, l := range layouts() {
		if l.mode != "nftables" {
			continue // the modes don't differ
		}
		pods, nodes := "an interface each (Calico)", "routes"
		if l.bridge {
			pods = "a bridge (flannel, kubenet)"
		}
		if l.tunnel {
			nodes = "VXLAN"
		}
		fmt.Fprintf(&b, "| %s | %s |", pods, nodes)
		for _, nat := range []func(family) string{l.nat1, l.nat2} {
			for _, f := range families {
				fmt.Fprintf(&b, " `%s` |", nat(f))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// pathsTable is what the server sees on each path.
func pathsTable() string {
	var b strings.Builder
	b.WriteString("| the way | Cluster: the peer | by the rules for Cluster " +
		"| Local: the peer | by the rules for Local |\n" +
		"|---|---|---|---|---|\n")
	paths := append([]path{}, pathsFromOutside...)
	paths = append(paths, pathsToHost...)
	paths = append(paths, pathsAnnounced(1)...)
	paths = append(paths, pathsAnnounced(2)...)
	paths = append(paths, pathsFromInside...)
	for _, p := range paths {
		fmt.Fprintf(&b, "| %s |", p.what)
		for _, s := range []sight{p.cluster, p.local} {
			switch {
			case s == nobody:
				b.WriteString(" no answer | |")
			case s.header != "":
				fmt.Fprintf(&b, " %s, with a header | %s |", s.peer, s.served)
			default:
				fmt.Fprintf(&b, " %s | %s |", s.peer, s.served)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// forgeriesTable is what becomes of forged headers.
func forgeriesTable() string {
	var b strings.Builder
	b.WriteString("| a header of his own, sent by | Cluster, its rules " +
		"| Cluster, its rules, the pods' ways closed " +
		"| Cluster with IP targets, the balancer's rules | Local, the balancer's rules |\n" +
		"|---|---|---|---|---|\n")
	for _, y := range forgeries {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", y.who, y.cluster, y.closed, y.targets, y.local)
	}
	return b.String()
}
