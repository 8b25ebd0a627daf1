//go:build !linux

package program

import "os/exec"

func dieWithTest(*exec.Cmd) {}
