package proxyproto

import (
	"errors"
	"net"
	"sync"
)

// lenBuffer leaves as much room for payload after the longest header that is accepted by
// default, so that a first Read gets what one on the bare connection would: whoever sniffs the
// first bytes wants a whole TLS ClientHello.
const lenBuffer = 2 * defaultMaxHeaderSize

// errNothingYet is readNow's way to say that it would have to wait.
var errNothingYet = errors.New("proxyproto: nothing has arrived yet")

// A buffer takes a connection's first bytes: data[start:end] are read and not yet used.
// Buffers are pooled; a connection has one only until these bytes are used up.
type buffer struct {
	data       []byte
	start, end int

	// For readNow. readFD is the method readOnce, bound when the buffer is made and not for
	// each connection, and result is what it found.
	readFD func(fd uintptr) bool
	result error
}

var buffers = sync.Pool{New: func() any {
	b := &buffer{data: make([]byte, lenBuffer)}
	b.readFD = b.readOnce
	return b
}}

func newBuffer() *buffer { return buffers.Get().(*buffer) }

// release gives b back; nothing may use it or its bytes from then on.
func (b *buffer) release() {
	if len(b.data) > lenBuffer {
		return
	}
	b.start, b.end = 0, 0
	buffers.Put(b)
}

func (b *buffer) bytes() []byte { return b.data[b.start:b.end] }

// readFrom waits for more of a connection's bytes. If they begin a header that b has no room
// for it makes some.
func (b *buffer) readFrom(conn net.Conn) error {
	size, _ := declaredSize(b.bytes())
	if size > len(b.data) || b.end == len(b.data) {
		larger := make([]byte, max(size, b.end)+defaultMaxHeaderSize)
		copy(larger, b.data[:b.end])
		b.data = larger
	}
	n, err := conn.Read(b.data[b.end:])
	b.end += n
	if n > 0 && isTimeout(err) {
		return nil // the next Read will say so again
	}
	return err
}
