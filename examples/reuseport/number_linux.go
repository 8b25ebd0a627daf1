//go:build !mips && !mipsle && !mips64 && !mips64le

package main

// reusePort is SO_REUSEPORT, which package syscall lacks on some architectures.
const reusePort = 0xf
