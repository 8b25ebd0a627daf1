// Command udp measures what serving UDP behind a proxy that sends PROXY headers costs, and prints
// Markdown tables: QUIC through a relay with headers, without, and on a bare socket; and single
// datagrams on a PacketConn beside a bare *net.UDPConn.
//
// Server, relay and clients are processes of their own, all of this program. What is compared takes
// its turns within a round, and the figures are medians over the rounds of the ratio in each.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"
)

func main() {
	log.SetFlags(0)
	rounds := flag.Int("rounds", 3000, "how often each server of datagrams serves a batch")
	quicRounds := flag.Int("quic-rounds", 7, "how often each QUIC server does each work")
	megabytes := flag.Int("mb", 500, "how much is downloaded and uploaded")
	only := flag.String("only", "", "QUIC alone, and of its work what has this in its name")
	serve := flag.String("serve", "", "internal: be a QUIC server of this kind")
	relay := flag.String("relay", "", "internal: relay to this address")
	headers := flag.Bool("headers", false, "internal: the relay sends headers")
	flag.Parse()
	if *rounds < 1 || *quicRounds < 1 || *megabytes < 1 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	var err error
	switch {
	case *serve != "":
		err = serveQUIC(*serve)
	case *relay != "":
		err = relayTo(*relay, *headers)
	default:
		if err = compareQUIC(*quicRounds, *megabytes, *only); err == nil && *only == "" {
			err = compareDatagrams(*rounds)
		}
	}
	if err != nil {
		log.Fatal(err)
	}
}

// ratios returns the median of a/b over the rounds, and the quartiles, for a table.
func ratios(a, b []float64) string {
	ratio := make([]float64, len(a))
	for i := range ratio {
		ratio[i] = a[i] / b[i] // what disturbs a round disturbs both
	}
	return fmt.Sprintf("%.2f (%.2f to %.2f)",
		quantile(ratio, 0.5), quantile(ratio, 0.25), quantile(ratio, 0.75))
}

func quantile(figures []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(figures))
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}

// progress says on standard error what is done, and how much is left.
func progress(what string, done, all int) {
	fmt.Fprintf(os.Stderr, "\r%s: %d of %d%s", what, done, all, strings.Repeat(" ", 20))
	if done == all {
		fmt.Fprintln(os.Stderr)
	}
}
