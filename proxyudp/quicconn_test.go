package proxyudp

import "golang.org/x/net/ipv4"

// messages are for ReadBatch: n of them, each with room for size bytes.
func messages(n, size int) []ipv4.Message {
	ms := make([]ipv4.Message, n)
	for i := range ms {
		ms[i] = ipv4.Message{Buffers: [][]byte{make([]byte, size)}, OOB: make([]byte, 128)}
	}
	return ms
}
