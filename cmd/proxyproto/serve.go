package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed2e8fe8ee/proxyproto"
)

// server is what serve is to do.
type server struct {
	trust                    []string
	optional, ignore, direct bool
	versions                 []string
	timeout                  time.Duration
	maxSize                  int
	udp, echo, json          bool
	n                        int
}

func newServe() *cobra.Command {
	var s server
	cmd := &cobra.Command{
		Use:   "serve [host:port]",
		Short: "Print what each connection brings, and answer it",
		Long: `Serve listens (by default on 127.0.0.1:8080, and port 0 is any free one) and prints what
each connection brings: the peer, its header with all TLVs, or why it was dropped. It answers HTTP
requests with the same, or with --echo whatever comes with itself. It ends when it is interrupted,
or after -n connections, and prints what it has counted.

Headers are believed from the addresses in --trust alone; others are dropped, and it says so.

With --json each event is a line: its "time", its "event" (listening, connection, datagram, dropped
or done), and what there is of address, peer, header, size, reason, error, bytes and stats.

The exit code is 5 if it can't listen, and 2 if the flags make no sense.`,
		Example: `  proxyproto serve                            # and curl --haproxy-protocol http://127.0.0.1:8080
  proxyproto serve --trust 10.0.0.0/8,192.0.2.1 :8080     # behind a load balancer
  proxyproto serve --trust 10.0.0.0/8 --optional :8080    # does it send headers yet?
  proxyproto serve --udp 127.0.0.1:5353                   # a header in each datagram, echoed without it
  proxyproto serve --json | jq -r 'select(.event == "connection") | .header.source'
  proxyproto serve --json | jq -r 'select(.event == "dropped") | [.time, .peer, .reason, .error] | @tsv'
  proxyproto serve --json | jq '.header.tlvs[]? | {name, value, hex}'
  proxyproto serve --json -n 100 | jq 'select(.event == "done") | .stats.dropped'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			address := "127.0.0.1:8080"
			if len(args) == 1 {
				address = args[0]
			}
			cfg, err := s.config()
			if err != nil {
				return err
			}
			l := &log{out: cmd.OutOrStdout(), errs: cmd.ErrOrStderr(), json: s.json, limit: s.n,
				full: make(chan struct{})}
			cfg.OnDrop = func(p proxyproto.Peer, drop *proxyproto.DropError) {
				l.print(dropped(p, drop))
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			if s.udp {
				return l.serveDatagrams(ctx, address, cfg)
			}
			return l.serveStreams(ctx, address, cfg, s.echo)
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringSliceVar(&s.trust, "trust", []string{"127.0.0.0/8", "::1"},
		"believe headers from these `addresses` and ranges, separated by commas; can be repeated")
	fs.BoolVar(&s.optional, "optional", false, "serve trusted peers without a header, too")
	fs.BoolVar(&s.ignore, "ignore", false, "like --optional, but don't believe the headers")
	fs.BoolVar(&s.direct, "direct", false, "serve the others as they are, without looking for a "+
		"header")
	fs.StringSliceVar(&s.versions, "versions", []string{"1", "2"}, "accept these `versions`")
	fs.DurationVar(&s.timeout, "timeout", 5*time.Second, "how long a header may take")
	fs.IntVar(&s.maxSize, "max-size", 4096, "how many `bytes` a header may have")
	fs.BoolVar(&s.udp, "udp", false, "serve UDP: a header in each datagram, whose payload is "+
		"echoed")
	fs.BoolVar(&s.echo, "echo", false, "answer with what comes, instead of HTTP")
	fs.BoolVar(&s.json, "json", false, "print a JSON object in one line for each event, and "+
		"answer HTTP with one")
	fs.IntVarP(&s.n, "number", "n", 0, "end after so many connections, served or dropped (0: "+
		"don't)")
	return cmd
}

func (s *server) config() (*proxyproto.Config, error) {
	trust, err := proxyproto.ParseTrust(s.trust...)
	switch {
	case err != nil:
		return nil, err
	case s.optional && s.ignore:
		return nil, errors.New("--optional and --ignore don't go together")
	case s.udp && s.echo:
		return nil, errors.New("--udp echoes anyway: leave out --echo")
	case s.n < 0:
		return nil, errors.New("-n is negative")
	case s.timeout <= 0 || s.maxSize <= 0:
		return nil, errors.New("--timeout and --max-size must be more than 0")
	}
	trusted, others := proxyproto.Require, proxyproto.Reject
	switch {
	case s.optional:
		trusted = proxyproto.Optional
	case s.ignore:
		trusted = proxyproto.Ignore
	}
	if s.direct {
		others = proxyproto.Skip
	}
	cfg := &proxyproto.Config{
		Policy: func(p proxyproto.Peer) proxyproto.Action {
			if trust(p) == proxyproto.Require {
				return trusted
			}
			return others
		},
		HeaderTimeout: s.timeout,
		MaxHeaderSize: s.maxSize,
	}
	for _, v := range s.versions {
		var version proxyproto.Version
		if err := version.UnmarshalText([]byte("v" + strings.TrimPrefix(v, "v"))); err != nil {
			return nil, fmt.Errorf("--versions has %q: there are 1 and 2", v)
		}
		cfg.Versions = append(cfg.Versions, version)
	}
	return cfg, nil
}

// listenError is an error of Listen: the network's, or the Config's.
func listenError(err error) error {
	if opError := new(net.OpError); errors.As(err, &opError) {
		return networkError(err)
	}
	return err
}
