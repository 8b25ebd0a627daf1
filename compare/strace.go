package main

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A trace is what a server asked of the kernel between two marks.
type trace struct {
	calls map[string]int   // by name, the ones that serve connections
	sent  map[string]int64 // bytes that went into sockets, by the call that carried them
}

const straceCalls = "accept4,read,write,readv,writev,recvfrom,sendto,recvmsg,sendmsg,close,shutdown," +
	"getsockname,getpeername,setsockopt,getsockopt,epoll_ctl,fcntl,splice,sendfile,newfstatat"

// traced runs a server under strace for as long as work needs it.
func traced(dir string, work func(server *helper)) trace {
	log := filepath.Join(dir, "strace")
	server := startHelper("server", anyCPU, ordinary, program("strace", "strace"),
		"-f", "-y", "-qq", "-s", "16", "-e", "trace="+straceCalls, "-o", log)
	func() {
		defer server.stop()
		work(server)
	}()
	b, err := os.ReadFile(log)
	check(err)
	return parseTrace(string(b))
}

// markFile is looked for, in vain, to mark a place in the trace.
const markFile = "/no-such-file-but-a-mark"

var (
	straceLine    = regexp.MustCompile(`^(\d+) +(.*)$`)
	straceCall    = regexp.MustCompile(`^(\w+)\((.*)$`)
	straceResumed = regexp.MustCompile(`^<\.\.\. (\w+) resumed>(.*)$`)
	straceResult  = regexp.MustCompile(`\) += (-?\d+)[^=]*$`)
)

func parseTrace(log string) trace {
	t := trace{calls: map[string]int{}, sent: map[string]int64{}}
	begun := map[string]string{} // the call that a thread hasn't returned from
	on := false
	for s := bufio.NewScanner(strings.NewReader(log)); s.Scan(); {
		line := straceLine.FindStringSubmatch(s.Text())
		if line == nil {
			continue
		}
		thread, text := line[1], line[2]
		if m := straceResumed.FindStringSubmatch(text); m != nil {
			text = begun[thread] + m[2]
		} else if strings.Contains(text, markFile) {
			on = !on
			continue
		} else if m := straceCall.FindStringSubmatch(text); m != nil && on && serves(m[1], m[2]) {
			t.calls[m[1]]++
		}
		if before, ok := strings.CutSuffix(text, " <unfinished ...>"); ok {
			begun[thread] = before
			continue
		}
		call, result := straceCall.FindStringSubmatch(text), straceResult.FindStringSubmatch(text)
		if !on || call == nil || result == nil {
			continue
		}
		n, _ := strconv.ParseInt(result[1], 10, 64)
		if n > 0 && intoSocket(call[1], call[2]) {
			t.sent[call[1]] += n
		}
	}
	return t
}

// serves reports whether a call is for a connection, and not the scheduler's wake-up of a
// thread or the helper's answer to its starter.
func serves(name, args string) bool {
	switch name {
	case "newfstatat", "fcntl":
		return false
	case "epoll_ctl", "accept4", "splice", "sendfile":
		return true
	}
	first, _, _ := strings.Cut(args, ",")
	return isSocket(first)
}

func isSocket(arg string) bool {
	return strings.Contains(arg, "<socket:") || strings.Contains(arg, "<TCP")
}

func intoSocket(name, args string) bool {
	fields := strings.Split(args, ",")
	switch name {
	case "write", "writev", "sendto", "sendmsg", "sendfile":
		return isSocket(fields[0])
	case "splice":
		return len(fields) > 2 && isSocket(fields[2])
	}
	return false
}

// The two ways in which header and payload come.
const (
	callsTogether = "together"
	callsApart    = "apart"

	suffixCalls = "-calls/conn"
)

// measureCalls counts the system calls of a short connection.
func measureCalls(m *measuring) {
	conns := m.many(200, 20)
	m.inTurn(1, len(wrappers), func(i int) {
		for work, together := range map[string]bool{callsTogether: true, callsApart: false} {
			for name, n := range syscallsOf(m.dir, wrappers[i], together, conns) {
				if n >= 0.05 { // what is rarer has other causes
					m.add(work, wrappers[i], name+suffixCalls, n)
				}
			}
		}
	})
}

// moreCalls returns the system calls that ours makes more often than bare.
func moreCalls(ours, bare map[string]float64) map[string]float64 {
	more := map[string]float64{}
	for name, n := range ours {
		if n > bare[name]+0.05 {
			more[name] = n - bare[name]
		}
	}
	return more
}

// syscallsOf returns the system calls that one short connection costs: its header and payload
// are there when it is accepted, or each comes when the server waits for it.
func syscallsOf(dir, kind string, together bool, conns int) map[string]float64 {
	client := startHelper("client", anyCPU, ordinary)
	defer client.stop()
	t := traced(dir, func(server *helper) {
		addr := server.ask(request{Op: "listen", Kind: kind, Handler: "short", Hold: true,
			Want: wantFor(kind, headerFor(kind))}).Addr
		client.ask(request{Op: "hold", Addr: addr, Conns: conns})
		server.ask(request{Op: "mark"})
		if together {
			first := slices.Concat(headerFor(kind), make([]byte, lenPayload))
			client.ask(request{Op: "write", Header: first})
			server.ask(request{Op: "accept"})
		} else {
			server.ask(request{Op: "accept"})
			time.Sleep(settled)
			client.ask(request{Op: "write", Header: headerFor(kind)})
			time.Sleep(settled)
			client.ask(request{Op: "write", Header: make([]byte, lenPayload)})
		}
		client.ask(request{Op: "finish"})
		server.ask(request{Op: "mark"})
	})
	per := map[string]float64{}
	for name, n := range t.calls {
		per[name] = float64(n) / float64(conns)
	}
	return per
}

// settled is how long a server under strace gets to come to where it waits. A server that is
// late makes fewer calls and not more.
const settled = 300 * time.Millisecond
