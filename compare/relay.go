package main

import (
	"errors"
	"os"
	"path/filepath"
)

var errLate = errors.New("the server took too long")

// A relaying is a way that bytes take through a server.
type relaying struct {
	name       string
	handler    string
	from, to   bool // whether that side is the contender's and not bare
	nets       bool // package net alone decides what carries the bytes
	times      map[string]series
	sent, bare map[string]int64 // bytes that went into sockets, by system call: ours and bare
	calls      map[string]int
	bareCalls  map[string]int
	sentPires  map[string]int64
}

func relayings() []*relaying {
	return []*relaying{
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
func (r *relaying) start(server *helper, kind, file string, size int64) request {
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

// measureRelays takes the time of sending size bytes.
func measureRelays(e effort, dir string, size int64) []*relaying {
	file := bigFile(dir, size)
	server, client := startHelper("server", firstCPU), startHelper("client", secondCPU)
	defer server.stop()
	defer client.stop()
	all := relayings()
	for _, r := range all {
		r.times = map[string]series{}
		reqs := make([]request, len(relayers))
		for i, kind := range relayers {
			reqs[i] = r.start(server, kind, file, size)
			client.ask(reqs[i])
		}
		for round := range e.rounds {
			for _, i := range turns(round, len(relayers)) {
				took := client.ask(reqs[i]).Elapsed
				r.times[relayers[i]] = append(r.times[relayers[i]], took.Seconds()*1e6/(float64(size)/1e6))
			}
		}
	}
	return all
}

// traceRelays finds out which system calls carry the bytes.
func traceRelays(all []*relaying, dir string, size int64) {
	for _, r := range all {
		ours := r.trace(dir, nameOurs, size)
		r.sent, r.calls = ours.sent, ours.calls
		bare := r.trace(dir, nameBare, size)
		r.bare, r.bareCalls = bare.sent, bare.calls
		r.sentPires = r.trace(dir, namePires, size).sent
	}
}

func (r *relaying) trace(dir, kind string, size int64) trace {
	file := bigFile(dir, size)
	client := startHelper("client", anyCPU)
	defer client.stop()
	return traced(dir, func(server *helper) {
		req := r.start(server, kind, file, size)
		server.ask(request{Op: "mark"})
		client.ask(req)
		server.ask(request{Op: "mark"})
	})
}

// io.CopyN hands a *net.TCPConn an io.LimitedReader, in which that looks for its own types only:
// from a wrapped connection to a bare one no wrapper can make it splice.
const netsNote = "io.CopyN to a bare connection excepted"

// zeroCopy is the system call that must carry a relaying's bytes.
func (r *relaying) zeroCopy() string {
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
