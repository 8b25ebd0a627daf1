package program

import (
	"os/exec"
	"syscall"
)

// dieWithTest makes the program end when the test's process does, be it killed.
func dieWithTest(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
