// Command udp measures what serving UDP by a PacketConn costs beside a bare *net.UDPConn, and
// prints the rows of a Markdown table.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"slices"
)

func main() {
	log.SetFlags(0)
	rounds := flag.Int("rounds", 3000, "how often each of the two serves a batch, in turn")
	flag.Parse()
	if *rounds < 1 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}

	fmt.Println("| datagrams/s, 100-byte payloads | bare `*net.UDPConn` | `PacketConn` | ratio (quartiles) | allocations a datagram |")
	fmt.Println("|---|---:|---:|---:|---:|")
	for _, clients := range []int{1, 64} {
		for _, w := range works {
			r, err := measure(w, clients, *rounds)
			if err != nil {
				log.Fatal(err)
			}
			fmt.Println(r.row(w, clients))
		}
	}
}

// A result has, for each round, the time that a batch took.
type result struct {
	bare, wrapped             []float64 // in ns
	allocsBare, allocsWrapped float64
}

func (r *result) row(w work, clients int) string {
	who := "one client"
	if clients > 1 {
		who = fmt.Sprintf("%d clients", clients)
	}
	// What disturbs a round disturbs both.
	ratio := make([]float64, len(r.bare))
	for i := range ratio {
		ratio[i] = r.bare[i] / r.wrapped[i]
	}
	return fmt.Sprintf("| %s, %s | %s | %s | %.2f (%.2f to %.2f) | %.2g and %.2g |", w.name, who,
		perSecond(quantile(r.bare, 0.5)), perSecond(quantile(r.wrapped, 0.5)),
		quantile(ratio, 0.5), quantile(ratio, 0.25), quantile(ratio, 0.75), r.allocsBare, r.allocsWrapped)
}

// perSecond is the rate of batches that take ns, in thousands.
func perSecond(ns float64) string {
	n := int(batch*1e9/ns/1000 + 0.5)
	if n < 1000 {
		return fmt.Sprintf("%d,000", n)
	}
	return fmt.Sprintf("%d,%03d,000", n/1000, n%1000)
}

func quantile(figures []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(figures))
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}
