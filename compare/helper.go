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
	"sync"
	"time"
)

// What is measured runs in processes of its own: this program again, told by roleVariable what to
// be. They get requests on standard input and answer each on standard output.
const roleVariable = "COMPARE_ROLE"

// A request to a helper. Each operation uses some of the fields.
type request struct {
	Op string

	Part  string // whose works a micro benchmark does
	Slice time.Duration
	Round int

	Kind       string // the contender whose listener it is
	Handler    string // what a server does with the listener's connections
	Want       int    // bytes that a connection brings before it is answered
	MaxPending int
	File       string
	Hold       bool // don't accept before the operation "accept"
	Sockets    int  // that share the address by SO_REUSEPORT; 0: one, as ever

	Addr, Sink string // where a client connects to
	Header     []byte // what it sends first,
	SinkHeader []byte
	Conns      int
	Strangers  bool // each connection comes from an address of its own
	Size       int64
}

type reply struct {
	Error string
	Addr  string

	Tasks   []task    // of a micro benchmark,
	Times   []float64 // and what each took in this round
	Figures []found   // of a simulation

	Elapsed     time.Duration
	Median, P99 time.Duration
	Lost        int

	CPU           time.Duration
	Allocs, Bytes uint64 // since the process began
	Live          uint64 // heap and stacks
	Goroutines    int
	Arrived, Done int64 // connections accepted by the kernel's listener, and served to their end
}

// ranRole is the main function of a helper; it returns when its standard input ends. It reports
// whether this process is one.
func ranRole() bool {
	role := os.Getenv(roleVariable)
	if role == "" {
		return false
	}
	handle := map[string]func(request) (reply, error){
		"server": newServer().handle, "client": newClient().handle,
		"micro": new(micro).handle, "simulation": simulate,
	}[role]
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

// An urgency says who may take a helper's CPU away.
type urgency int

const (
	ordinary urgency = iota
	urgent           // ordinary processes only now and then
	alone            // none: for what neither waits for nor shares its CPU with other helpers
)

// A helper is a running process.
type helper struct {
	role string
	cmd  *exec.Cmd
	in   io.WriteCloser
	enc  *json.Encoder
	dec  *json.Decoder
}

// start starts a helper at a place. When little is measured it takes no priority.
func (m *measuring) start(role string, at place, u urgency) *helper {
	if m.quick {
		u = ordinary
	}
	return startHelper(role, at, u)
}

// startHelper starts a helper, after the prefix of a command line if there is one (strace and its
// options).
func startHelper(role string, at place, u urgency, prefix ...string) *helper {
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
	args = append(priorities()[u], args...)
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

// priorities has the commands that give a process each urgency, as far as this user may.
var priorities = sync.OnceValue(func() map[urgency][]string {
	works := func(args ...string) []string {
		out, err := exec.Command(args[0], append(args[1:], "true")...).CombinedOutput()
		if err != nil || len(out) > 0 { // nice only complains
			return nil
		}
		return args
	}
	p := map[urgency][]string{urgent: works("nice", "-n", "-19"), alone: works("chrt", "-f", "50")}
	if p[alone] == nil {
		p[alone] = p[urgent]
	}
	return p
})

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

// await asks until the answer is right.
func (h *helper) await(req request, right func(reply) bool) reply {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if rep := h.ask(req); right(rep) {
			return rep
		}
		if time.Now().After(deadline) {
			check(fmt.Errorf("%s: %s: it took too long", h.role, req.Op))
		}
	}
}

// stop ends the helper and waits for its end.
func (h *helper) stop() {
	h.in.Close()
	h.cmd.Wait()
}

// check ends the part that runs with an error.
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
	return m.program + " is not installed; on Debian: apt-get install --no-install-recommends " +
		m.debian
}
