//go:build !unix || portable

// Package testenv says how the tests were built, and makes what tests of several packages need.
package testenv

// Portable says that sockets aren't read without waiting: everywhere with the build tag of that
// name, which is there to test elsewhere what systems other than Unix get.
const Portable = true
