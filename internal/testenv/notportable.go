//go:build unix && !portable

package testenv

// Portable says that sockets aren't read without waiting.
const Portable = false
