package program

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMain is a program that listens, or a test that starts one and then hangs, if it is asked to be.
func TestMain(m *testing.M) {
	switch os.Getenv("PROGRAM_TEST") {
	case "listens":
		fmt.Fprintln(os.Stderr, "listening on nothing")
		fmt.Fprintln(os.Stderr, os.Getpid())
		select {}
	case "hangs":
		var err error
		if binary, err = os.Executable(); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// A test that hangs and is killed takes the program with it, whatever its cleanups.
func TestProgramDiesWithTest(t *testing.T) {
	if os.Getenv("PROGRAM_TEST") == "hangs" {
		t.Setenv("PROGRAM_TEST", "listens")
		_, lines := StartLogged(t)
		fmt.Println("pid " + <-lines)
		select {}
	}
	own, err := os.Executable()
	require.NoError(t, err)
	test := exec.Command(own, "-test.run", "^TestProgramDiesWithTest$")
	test.Env = append(os.Environ(), "PROGRAM_TEST=hangs")
	out, err := test.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, test.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	var pid int
	_, err = fmt.Sscanf(line, "pid %d", &pid)
	require.NoError(t, err, line)
	require.NoError(t, syscall.Kill(pid, 0))
	require.NoError(t, test.Process.Kill())
	io.Copy(io.Discard, out)
	test.Wait()
	assert.Eventually(t, func() bool {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		return err != nil || strings.Contains(string(status), "State:\tZ")
	}, time.Minute, time.Millisecond, "it lives on")
}
