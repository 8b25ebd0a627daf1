// Command programs builds the programs that the tests of kubernetes/, receivers/ and senders/ run,
// and shows how far it is, which the tests themselves can't. Run it in interop/.
package main

import (
	"fmt"
	"io"
	"log"
	"os"

	"github.com/seed2e8fe8ee/proxyproto/interop/internal/built"
)

func main() {
	log.SetFlags(0)
	for _, p := range []struct {
		build func(dir string, progress io.Writer) (string, error)
		dir   string
	}{
		{built.KubeProxy, "kubernetes/kubeproxy"},
		{built.Caddy, "senders/caddy"},
	} {
		path, err := p.build(p.dir, os.Stdout)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(path)
	}
}
