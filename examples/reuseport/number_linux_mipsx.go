//go:build linux && (mips || mipsle || mips64 || mips64le)

package main

// reusePort is SO_REUSEPORT, which has another number here.
const reusePort = 0x200
