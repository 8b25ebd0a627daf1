package program

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestBegin: a program that a test has begun is gone after the test's process was killed, which
// can't clean up. This test's process is the one that kills; it runs itself as the one that is killed.
func TestBegin(t *testing.T) {
	if os.Getenv("BEGIN_AND_HANG") != "" {
		child := exec.Command("sleep", "600")
		_, err := Begin(child)
		require.NoError(t, err)
		fmt.Println("began", child.Process.Pid)
		select {}
	}
	parent := exec.Command(os.Args[0], "-test.run=^TestBegin$")
	parent.Env = append(os.Environ(), "BEGIN_AND_HANG=yes")
	stdout, err := parent.StdoutPipe()
	require.NoError(t, err)
	wait, err := Begin(parent)
	require.NoError(t, err)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimPrefix(strings.TrimSpace(line), "began "))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, 0))
	require.NoError(t, parent.Process.Kill())
	assert.Error(t, wait())
	assert.Eventually(t, func() bool { return !running(pid) }, time.Minute, time.Millisecond)
}

// running reports whether a process is there and no zombie, which nobody may collect here.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}
