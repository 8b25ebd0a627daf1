//go:build !unix || portable

package proxyproto

// portable says that sockets aren't read without waiting: everywhere with the build tag of that
// name, which is there to test elsewhere what systems other than Unix get.
const portable = true
