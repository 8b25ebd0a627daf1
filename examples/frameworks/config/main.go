// Config serves by the rules of a YAML file, and reads them again when it gets SIGHUP. JSON and
// TOML have the same names for them.
//
//	go run ./config -config config/server.yaml
//	curl --haproxy-protocol http://127.0.0.1:8080/
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/seed2e8fe8ee/proxyproto"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to listen on")
	config := flag.String("config", "server.yaml", "file with the rules")
	flag.Parse()

	policy, err := load(*config)
	if err != nil {
		log.Fatal(err)
	}
	ln, err := proxyproto.Listen("tcp", *listen, &proxyproto.Config{
		Policy: policy,
		OnDrop: proxyproto.LogDrops(nil),
	})
	if err != nil {
		log.Fatal(err)
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		for range hangups {
			reload(ln, *config)
		}
	}()
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "hello %s\n", r.RemoteAddr)
		}),
		ReadHeaderTimeout: 10 * time.Second,
	}
	log.Printf("listening on %v", ln.Addr())
	log.Printf("try: curl --haproxy-protocol http://%v/", ln.Addr())
	log.Fatal(server.Serve(ln))
}

// reload replaces the Policy for the connections to come. A file with a mistake changes nothing.
func reload(ln *proxyproto.Listener, config string) {
	policy, err := load(config)
	if err != nil {
		log.Printf("the rules stay as they are: %v", err)
		return
	}
	ln.SetPolicy(policy)
	log.Printf("new rules from %s", config)
}

func load(config string) (proxyproto.Policy, error) {
	text, err := os.ReadFile(config)
	if err != nil {
		return nil, err
	}
	policy, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", config, err)
	}
	return policy, nil
}

// parse makes a Policy of YAML. A name that it doesn't know is an error, and so is a rule without a
// prefix: one that never matches would be worse.
func parse(text []byte) (proxyproto.Policy, error) {
	var file struct {
		Rules     []proxyproto.Rule `yaml:"rules"`
		Otherwise proxyproto.Action `yaml:"otherwise"`
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		return nil, err
	}
	for i, rule := range file.Rules {
		// What Rules would panic for.
		if _, err := proxyproto.ParsePrefixes(rule.Prefix.String()); err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
	}
	return proxyproto.Rules(file.Otherwise, file.Rules...), nil
}
