package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Servers and their clients are processes of their own: this program again, told by roleVariable
// what to be. They get requests on standard input and answer each on standard output.
const roleVariable = "COMPARE_ROLE"

// A request to a server or client. Each operation uses some of the fields.
type request struct {
	Op string

	Kind       string // the contender whose listener it is
	Handler    string // what a server does with the listener's connections
	Want       int    // bytes that a connection brings before it is answered
	MaxPending int
	File       string
	Hold       bool // don't accept before the operation "accept"

	Addr, Sink string // where a client connects to
	Header     []byte // what it sends first,
	SinkHeader []byte
	Gap        time.Duration // how long before the rest; 0: with the rest
	Conns      int
	AtOnce     int
	Size       int64
}

type reply struct {
	Error   string
	Addr    string
	Elapsed time.Duration

	CPU           time.Duration
	Allocs, Bytes uint64 // since the process began
	Live          uint64 // heap and stacks after a collection
	Accepted      int64
}

// ranRole is the main function of a helper; it returns when its standard input ends. It reports
// whether this process is one.
func ranRole() bool {
	role := os.Getenv(roleVariable)
	if role == "" {
		return false
	}
	handle := map[string]func(request) (reply, error){"server": newServer().handle, "client": newClient().handle}[role]
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var req request
		if in.Decode(&req) != nil {
			return true
		}
		rep, err := handle(req)
		if err != nil {
			rep.Error = err.Error()
		}
		if out.Encode(rep) != nil {
			return true
		}
	}
}

// place says where a helper runs: on one CPU, or on all if it is negative.
type place int

const (
	firstCPU  place = 0
	secondCPU place = 1
	anyCPU    place = -1
)

// A helper is a running server or client.
type helper struct {
	role string
	cmd  *exec.Cmd
	in   io.WriteCloser
	enc  *json.Encoder
	dec  *json.Decoder
}

// startHelper starts a helper at a place, behind the prefix of a command line if there is one
// (strace and its options).
func startHelper(role string, at place, prefix ...string) *helper {
	self, err := os.Executable()
	check(err)
	args := append(prefix, self)
	// Under the race detector a process would sleep for a second before it ends.
	env := append(os.Environ(), roleVariable+"="+role, "GORACE=atexit_sleep_ms=0")
	if at != anyCPU && runtime.NumCPU() > 1 {
		if taskset, err := exec.LookPath("taskset"); err == nil {
			args = append([]string{taskset, "-c", strconv.Itoa(int(at))}, args...)
		}
		env = append(env, "GOMAXPROCS=1")
	}
	h := &helper{role: role, cmd: exec.Command(args[0], args[1:]...)}
	h.cmd.Env = env
	h.cmd.Stderr = os.Stderr
	h.in, err = h.cmd.StdinPipe()
	check(err)
	out, err := h.cmd.StdoutPipe()
	check(err)
	h.enc, h.dec = json.NewEncoder(h.in), json.NewDecoder(out)
	check(h.cmd.Start())
	return h
}

// ask sends a request and waits for the answer.
func (h *helper) ask(req request) reply {
	check(h.enc.Encode(req))
	var rep reply
	check(h.dec.Decode(&rep))
	if rep.Error != "" {
		check(fmt.Errorf("%s: %s: %s", h.role, req.Op, rep.Error))
	}
	return rep
}

// stop ends the helper and waits for its end.
func (h *helper) stop() {
	h.in.Close()
	h.cmd.Wait()
}

// check ends the part that runs now with an error.
func check(err error) {
	if err != nil {
		panic(failure{err})
	}
}

// failure is what check panics with.
type failure struct{ error }

// program returns where a program that is needed is installed, or the reason why the part
// can't be measured.
func program(name, debian string) string {
	for _, dir := range append(strings.Split(os.Getenv("PATH"), ":"), "/usr/sbin", "/usr/local/sbin") {
		if path, err := exec.LookPath(dir + "/" + name); err == nil {
			return path
		}
	}
	panic(missing{name, debian})
}

// missing says that a program isn't installed.
type missing struct{ program, debian string }

func (m missing) Error() string {
	return m.program + " is not installed; on Debian: apt-get install --no-install-recommends " + m.debian
}
