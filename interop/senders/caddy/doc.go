// Package caddy pins the Caddy that interop/senders builds and runs; it has no code.
package caddy
