// Package udp holds the tests of proxyudp against what its users run over UDP: dnsdist and kdig
// in front of a DNS server, other receivers behind our sender, and an HTTP/3 server whose
// datagrams come through a relay. They stand apart from the other programs' because they need
// modules that those don't.
package udp
