//go:build linux

package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/interop/internal/built"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// buildKubeProxy returns the path of a kube-proxy of the version in kubeproxy/go.mod.
func buildKubeProxy(t *testing.T) string {
	t.Helper()
	path, err := built.KubeProxy("kubeproxy", os.Stderr)
	require.NoError(t, err)
	return path
}

// startKubeProxy starts node i's kube-proxy. All rules of the kernel for Services are its own.
func (c *cluster) startKubeProxy(t *testing.T, i int, path, api string) {
	t.Helper()
	proxies.Start(t, proxies.Spec{
		Program: "kube-proxy",
		Path:    path,
		Args: []string{
			"--master=http://" + api, "--kube-api-content-type=application/json",
			"--proxy-mode=" + c.mode, fmt.Sprintf("--hostname-override=node%d", i),
			"--cluster-cidr=" + strings.Join(both(family.pods), ","),
			"--conntrack-max-per-core=0", // that one is the whole machine's
			"--oom-score-adj=0",
		},
		Enter: c.ns[node(i)].Enter,
		Ready: func() error { return nil }, // awaitRules waits for both
	})
}

// awaitRules returns when both nodes forward connections of either family, and answer health
// checks. kube-proxy puts all rules of a family into the kernel at once.
func (c *cluster) awaitRules(t *testing.T) {
	t.Helper()
	for i := 1; i <= 2; i++ {
		for _, f := range families {
			c.await(t, at(f.node(i), services[underCluster.vip-1].nodePort()), hello)
			c.await(t, at(f.node(i), services[underLocal.vip-1].healthPort()),
				"GET / HTTP/1.0\r\n\r\n")
		}
	}
}

// await sends the line again and again until it is answered.
func (c *cluster) await(t *testing.T, addr, line string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), proxies.Timeout)
	defer cancel()
	for {
		answer, err := c.send(ctx, "client", addr, line)
		if len(answer) > 0 {
			return
		}
		require.NoError(t, ctx.Err(), "%s doesn't answer: %v", addr, err)
		time.Sleep(10 * time.Millisecond) // how often to ask; nothing depends on it
	}
}

// startAPI starts what kube-proxy needs of an API server, lists and watches of objects that never
// change, and returns its address.
func (c *cluster) startAPI(t *testing.T) string {
	t.Helper()
	ln := c.ns["router"].Listen(t, at(ipv4.router(), 0))
	all := objects()
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serveAPI(w, r, all)
	})}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	return ln.Addr().String()
}

func serveAPI(w http.ResponseWriter, r *http.Request, all map[string][]object) {
	w.Header().Set("Content-Type", "application/json")
	items, known := all[r.URL.Path]
	switch {
	case !known && r.Method == http.MethodPost: // events
		w.WriteHeader(http.StatusCreated)
		io.Copy(w, r.Body)
		return
	case !known:
		w.WriteHeader(http.StatusNotFound)
		json.NewEncoder(w).Encode(object{
			"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound",
			"code": http.StatusNotFound,
		})
		return
	}
	first := items[0]
	// The one selector that matters here: kube-proxy asks for its own node.
	if name, ok := strings.CutPrefix(r.FormValue("fieldSelector"), "metadata.name="); ok {
		items = withName(items, name)
	}
	enc := json.NewEncoder(w)
	if r.FormValue("watch") == "" {
		enc.Encode(object{
			"kind": first["kind"].(string) + "List", "apiVersion": first["apiVersion"],
			"metadata": object{"resourceVersion": "1"}, "items": items,
		})
		return
	}
	if r.FormValue("sendInitialEvents") == "true" {
		for _, o := range items {
			enc.Encode(object{"type": "ADDED", "object": o})
		}
		enc.Encode(object{"type": "BOOKMARK", "object": object{
			"kind": first["kind"], "apiVersion": first["apiVersion"], "metadata": object{
				"resourceVersion": "1",
				"annotations":     object{"k8s.io/initial-events-end": "true"},
			},
		}})
	}
	http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func withName(items []object, name string) (found []object) {
	for _, o := range items {
		if o["metadata"].(object)["name"] == name {
			found = append(found, o)
		}
	}
	return found
}
