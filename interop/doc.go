// Package interop holds the tests of proxyproto against the programs that its users run in front
// of it: each test writes a configuration, starts the real program on free loopback ports, and
// sends 2,000 connections from many client addresses through it.
//
// A program that isn't installed fails its tests where the environment says CI=true, and skips
// them elsewhere; the message names the Debian package either way.
package interop
