// Package receivers has no code, only tests: they run "proxyproto check" against everything that
// takes PROXY headers, and write docs/receivers.md.
package receivers
