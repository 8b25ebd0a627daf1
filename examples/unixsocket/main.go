// Unixsocket serves on a Unix socket behind nginx on the same machine, which tells it the clients
// by PROXY headers. A peer on such a socket has no IP address, so no trust list has it: the Policy
// must require a header from whoever connects, and the file's mode says who may. (nginx connects as
// its workers' user, www-data on Debian: -mode 0660 and its group let it in.) With -uid the kernel
// also says whether it is the proxy's user who connects, and everybody else is rejected.
//
//	go run ./examples/unixsocket
//	curl --haproxy-protocol --unix-socket /tmp/hello.sock http://localhost/
//
// In nginx.conf:
//
//	stream {
//		server {
//			listen 8080;
//			proxy_pass unix:/tmp/hello.sock;
//			proxy_protocol on;
//		}
//	}
package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

func main() {
	listen := flag.String("listen", "/tmp/hello.sock", "path of the socket")
	mode := flag.Uint("mode", 0o600, "who may connect; with 0660 the file's group too")
	uid := flag.Int("uid", -1, "the number of the user who may send headers; -1: everybody who "+
		"may connect")
	flag.Parse()
	policy := proxyproto.Always(proxyproto.Require)
	if *uid >= 0 {
		var err error
		if policy, err = onlyUser(uint32(*uid)); err != nil {
			log.Fatal(err)
		}
	}
	ln, err := listenUnix(*listen, fs.FileMode(*mode), policy)
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		Handler:           http.HandlerFunc(hello),
		ConnContext:       proxyproto.ConnContext,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second, // with the body; and for the next request
		WriteTimeout:      30 * time.Second, // of the answer
	}
	log.Printf("listening on %v", ln.Addr())
	log.Printf("try: curl --haproxy-protocol --unix-socket %v http://localhost/", ln.Addr())
	log.Fatal(server.Serve(ln))
}

func hello(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "hello %s\n", r.RemoteAddr)
	if header, ok := proxyproto.HeaderFromContext(r.Context()); ok {
		fmt.Fprintln(w, "the header says", header)
	}
}

// listenUnix makes the socket for those that mode says, and nobody else, at any time.
func listenUnix(path string, mode fs.FileMode, policy proxyproto.Policy) (
	*proxyproto.Listener, error,
) {
	// A server that was killed has left its socket behind. This one takes its place, even if that
	// one still runs: start it once.
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	var ln *proxyproto.Listener
	err := withUmask(0o177, func() (err error) { // the file is there before Chmod is
		ln, err = proxyproto.Listen("unix", path, &proxyproto.Config{
			Policy: policy,
			OnDrop: proxyproto.LogDrops(nil),
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}
