// Package connkey has the key under which proxyproto.ConnContext keeps a request's Conn in its
// context, for this module's packages that need more of it than the header.
package connkey

// Key is the key. Its value is a *proxyproto.Conn.
type Key struct{}
