// Package proxyprom shows the counts of a proxyproto Listener or PacketConn to Prometheus.
//
// It is a module of its own, so that proxyproto needs no dependencies.
package proxyprom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed2e8fe8ee/proxyproto"
)

// Source is what has counts: a *proxyproto.Listener or a *proxyproto.PacketConn.
type Source interface {
	Stats() proxyproto.Stats
}

// Collector is a prometheus.Collector for one Source. Its metrics are
//
//	proxyproto_accepted_total              connections (or datagrams) from inside
//	proxyproto_pending                     those whose header is being awaited now
//	proxyproto_served_total{header=…}      "v1", "v2", "local", "bare", "ignored", "skipped"
//	proxyproto_probes_total                ended without having sent a byte
//	proxyproto_dropped_total{reason=…}     the strings of proxyproto.Reason
//
// and mean what the fields of [proxyproto.Stats] mean. Each series exists from the beginning. All
// series of a scrape are of one call of Stats.
type Collector struct {
	source                                     Source
	accepted, pending, served, probes, dropped *prometheus.Desc
}

// NewCollector returns a Collector for source, whose series all have the given labels. For
// several sources in one registry give each one labels of the same names and other values, such as
// {"listener": "https"}; labels may be nil if there is but one.
func NewCollector(source Source, labels prometheus.Labels) *Collector {
	desc := func(name, help string, variable ...string) *prometheus.Desc {
		return prometheus.NewDesc("proxyproto_"+name, help, variable, labels)
	}
	return &Collector{
		source:   source,
		accepted: desc("accepted_total", "Connections or datagrams that have come in."),
		pending:  desc("pending", "Accepted connections whose PROXY header is being awaited."),
		served: desc("served_total",
			"Connections or datagrams passed on, by the PROXY header that they brought.", "header"),
		probes:  desc("probes_total", "Connections that ended without having sent a byte."),
		dropped: desc("dropped_total", "Connections or datagrams dropped, by reason.", "reason"),
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.accepted, c.pending, c.served, c.probes, c.dropped} {
		descs <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(metrics chan<- prometheus.Metric) {
	stats := c.source.Stats()
	count := func(d *prometheus.Desc, n uint64, label ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), label...)
	}
	count(c.accepted, stats.Accepted)
	metrics <- prometheus.MustNewConstMetric(c.pending, prometheus.GaugeValue, float64(stats.Pending))
	count(c.served, stats.V1, "v1")
	count(c.served, stats.V2, "v2")
	count(c.served, stats.Local, "local")
	count(c.served, stats.Bare, "bare")
	count(c.served, stats.Ignored, "ignored")
	count(c.served, stats.Skipped, "skipped")
	count(c.probes, stats.Probes)
	for reason := proxyproto.ReasonRejected; ; reason++ {
		label, err := reason.MarshalText()
		if err != nil {
			return // there are no more
		}
		count(c.dropped, stats.Dropped[reason], string(label))
	}
}
