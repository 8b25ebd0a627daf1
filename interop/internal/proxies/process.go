package proxies

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Spec says how to start a program.
type Spec struct {
	Program string // as Need knows it
	Path    string // of a program that is no Debian package's; Program is then its name in messages
	Args    []string
	Env     []string // in addition to the test's own
	Dir     string   // from Dir: the program runs there
	// Ready returns nil as soon as the program serves; until then it is asked again and again.
	// It shall wait inside, by dialing, rather than return at once.
	Ready func() error
	// Stop is the signal that ends the program; zero is SIGTERM.
	Stop syscall.Signal
	// Enter, if set, is called on the thread that starts the program, to move it into a network
	// namespace. The thread is used for nothing else.
	Enter func() error
}

// Process is a program that a test started. It is stopped when the test ends, and what it wrote to
// its standard output and error is shown if the test failed.
type Process struct {
	Dir string

	cmd     *exec.Cmd
	logs    logBuffer
	exited  chan struct{}
	err     error // why it exited; after exited is closed
	ending  bool  // the test wants it to end; only the test's goroutine uses it
	program string
}

// Dir makes a directory with the files in it. Its path is short enough for Unix sockets, which
// t.TempDir's isn't.
func Dir(t testing.TB, files map[string]string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "interop")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	for name, content := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	return dir
}

// Start starts the program and returns when it is ready.
func Start(t testing.TB, s Spec) *Process {
	t.Helper()
	p := &Process{Dir: s.Dir, exited: make(chan struct{}), program: s.Program}
	path := s.Path
	if path == "" {
		path = Need(t, s.Program)
	}
	p.cmd = exec.Command(path, s.Args...)
	p.cmd.Dir = s.Dir
	p.cmd.Env = append(os.Environ(), s.Env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.logs, &p.logs
	// A group of its own, so that its children can be killed with it, and a signal for when the
	// test process is killed and can't stop it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	p.cmd.WaitDelay = 10 * time.Second

	started := make(chan error)
	go func() {
		// The death signal is tied to the thread that forks: it has to live as long.
		runtime.LockOSThread()
		var err error
		if s.Enter == nil {
			defer runtime.UnlockOSThread()
		} else {
			err = s.Enter()
		}
		if err == nil {
			err = p.cmd.Start()
		}
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.exited)
		}
	}()
	require.NoError(t, <-started)

	stop := s.Stop
	if stop == 0 {
		stop = syscall.SIGTERM
	}
	t.Cleanup(func() { p.cleanup(t, stop) })
	p.waitReady(t, s.Ready)
	return p
}

func (p *Process) waitReady(t testing.TB, ready func() error) {
	t.Helper()
	result := make(chan error, 1)
	go func() {
		deadline := time.Now().Add(Timeout)
		for {
			err := ready()
			if err == nil || time.Now().After(deadline) {
				result <- err
				return
			}
			select {
			case <-p.exited:
				result <- err
				return
			case <-time.After(5 * time.Millisecond): // how often to ask; nothing depends on it
			}
		}
	}()
	if err := <-result; err != nil {
		t.Fatalf("%s doesn't serve: %v", p.program, err)
	}
}

func (p *Process) cleanup(t testing.TB, stop syscall.Signal) {
	select {
	case <-p.exited:
		if !p.ending {
			t.Errorf("%s ended by itself: %v", p.program, p.err)
		}
	default:
		p.Stop(stop)
	}
	// The group outlives its leader when that was killed and left children behind.
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	if t.Failed() {
		t.Logf("%s wrote:\n%s", p.program, p.Logs())
	}
}

// Pid is the process id, and the id of the process group.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Exited is closed when the program has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Logs returns the last of what the program wrote.
func (p *Process) Logs() string { return p.logs.String() }

// Signal sends a signal to the program, and not to its children.
func (p *Process) Signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(sig))
}

// Stop ends the program with sig and waits until it has ended. A program that doesn't heed the
// signal is killed.
func (p *Process) Stop(sig syscall.Signal) {
	p.ending = true
	p.cmd.Process.Signal(sig)
	select {
	case <-p.exited:
	case <-time.After(Timeout / 4):
		p.Kill()
	}
}

// Kill ends the program and its children, without giving them a chance to say goodbye.
func (p *Process) Kill() {
	p.ending = true
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.exited
}

// Dials is a Ready function: it succeeds when something accepts at addr.
func Dials(network, addr string) func() error {
	return func() error {
		c, err := net.DialTimeout(network, addr, Timeout)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

// Says is a Ready function: it succeeds when whoever accepts at addr sends want and closes.
func Says(network, addr, want string) func() error {
	return func() error {
		c, err := net.DialTimeout(network, addr, Timeout)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(Timeout))
		got, err := io.ReadAll(c)
		if err == nil && string(got) != want {
			err = fmt.Errorf("%s answered %q", addr, got)
		}
		return err
	}
}

// logBuffer keeps the end of what is written to it.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
	cut bool
}

const keptLog = 16 << 10

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Write(p)
	if b.buf.Len() > 2*keptLog {
		b.buf.Next(b.buf.Len() - keptLog)
		b.cut = true
	}
	return len(p), nil
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cut {
		return "[...]" + b.buf.String()
	}
	return b.buf.String()
}

// Run runs a program to its end and returns what it wrote to its standard output.
func Run(path string, args ...string) (string, error) {
	var errs bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", path, err, errs.String())
	}
	return string(out), err
}
