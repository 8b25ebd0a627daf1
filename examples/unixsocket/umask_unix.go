//go:build unix

package main

import "syscall"

// withUmask calls f while files get no permissions of mask. It is the whole process's.
func withUmask(mask int, f func() error) error {
	before := syscall.Umask(mask)
	defer syscall.Umask(before)
	return f()
}
