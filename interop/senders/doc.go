// Package senders runs proxies that send headers and that no Debian package has: Caddy as it is,
// built from the Go module proxy. It has nothing but tests. Building Caddy takes some minutes the
// first time: make e2e shows how far it is.
package senders
