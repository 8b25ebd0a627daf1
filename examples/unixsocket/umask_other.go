//go:build !unix

package main

// withUmask calls f: there is no such thing here.
func withUmask(_ int, f func() error) error { return f() }
