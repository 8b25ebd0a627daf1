package main

import (
	"os"
	"path/filepath"
)

// A relaying is a way that bytes take through a server.
type relaying struct {
	name     string
	handler  string
	from, to bool // whether that side is the contender's and not bare
	nets     bool // package net alone decides what carries the bytes
}

func relayings() []relaying {
	return []relaying{
		{name: "io.Copy, from a wrapped connection", handler: "relay", from: true},
		{name: "io.Copy, to a wrapped connection", handler: "relay", to: true},
		{name: "io.Copy, between two", handler: "relay", from: true, to: true},
		{name: "io.CopyN, from a wrapped to a bare connection", handler: "relay n", from: true, nets: true},
		{name: "io.CopyN, to a wrapped connection", handler: "relay n", to: true},
		{name: "io.CopyN, between two", handler: "relay n", from: true, to: true},
		{name: "a file", handler: "file", to: true},
	}
}

var relayers = []string{nameBare, nameOurs, namePires, nameArmon}

// start makes the listeners that a relaying needs, and returns what the client is to do.
func (r relaying) start(server *helper, kind, file string, size int64) request {
	side := func(wrapped bool) (string, []byte) {
		if !wrapped || kind == nameBare {
			return nameBare, nil
		}
		return kind, headerFor(kind)
	}
	req := request{Op: "receive", Size: size}
	if r.handler == "file" {
		sink, header := side(r.to)
		req.Addr = server.ask(request{Op: "listen", Kind: sink, Handler: "file", File: file}).Addr
		req.Header = header
		return req
	}
	sink, header := side(r.to)
	req.Sink = server.ask(request{Op: "listen", Kind: sink, Handler: "sink"}).Addr
	req.SinkHeader = header
	source, header := side(r.from)
	req.Addr = server.ask(request{Op: "listen", Kind: source, Handler: r.handler, Size: size}).Addr
	req.Header = header
	return req
}

// bigFile makes a file to be sent.
func bigFile(dir string, size int64) string {
	file := filepath.Join(dir, "file")
	check(os.WriteFile(file, make([]byte, size), 0o600))
	return file
}

const (
	unitRelay   = "µs/MB"
	suffixBytes = "-share" // of the bytes that a system call has put into a socket
)

// measureRelays takes the time of sending many bytes, and finds out which system calls carry them.
func measureRelays(m *measuring) {
	size, traceSize := int64(m.many(64<<20, 1<<20)), int64(m.many(16<<20, 1<<20))
	file := bigFile(m.dir, size)
	server := m.start("server", firstCPU, urgent)
	defer server.stop()
	client := m.start("client", secondCPU, urgent)
	defer client.stop()
	all := relayings()
	var reqs []request
	for _, r := range all {
		for _, kind := range relayers {
			reqs = append(reqs, r.start(server, kind, file, size))
		}
	}
	for _, req := range reqs {
		client.ask(req)
	}
	m.inTurn(m.many(9, 1), len(reqs), func(i int) {
		r, kind := all[i/len(relayers)], relayers[i%len(relayers)]
		took := client.ask(reqs[i]).Elapsed
		m.add(r.name, kind, unitRelay, took.Seconds()*1e6/(float64(size)/1e6))
	})
	for _, r := range all {
		for _, kind := range []string{nameBare, nameOurs, namePires} {
			sent := r.trace(m.dir, kind, traceSize).sent
			for call := range sent {
				m.add(r.name, kind, call+suffixBytes, carried(sent, call))
			}
		}
	}
}

func (r relaying) trace(dir, kind string, size int64) trace {
	file := bigFile(dir, size)
	client := startHelper("client", anyCPU, ordinary)
	defer client.stop()
	return traced(dir, func(server *helper) {
		req := r.start(server, kind, file, size)
		server.ask(request{Op: "mark"})
		client.ask(req)
		server.ask(request{Op: "mark"})
	})
}

// zeroCopy is the system call that must carry a relaying's bytes.
func (r relaying) zeroCopy() string {
	if r.handler == "file" {
		return "sendfile"
	}
	return "splice"
}

// carried returns the share of the bytes that the call carried.
func carried(sent map[string]int64, call string) float64 {
	var all int64
	for _, n := range sent {
		all += n
	}
	if all == 0 {
		return 0
	}
	return float64(sent[call]) / float64(all)
}
