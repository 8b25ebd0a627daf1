package proxyproto

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"time"
)

// ReadHeader reads a header from the front of r and nothing else: what follows it stays in r. It
// is for programs with a reader of their own; the Header shares no memory with r.
//
// It blocks until the header is whole: there is no time limit but the one of the connection
// beneath. The longest header that it takes is as long as r's buffer.
//
// If r begins with something else the error is [ErrNoHeader], and nothing has been taken from r.
// It is io.EOF if r ended before a byte came. After any other error r is not to be used: it is
// matched by [ErrMalformed], by [ErrIncomplete] if r ended inside the header or the header is
// longer than r's buffer, or it is the error of reading.
func ReadHeader(r *bufio.Reader) (*Header, error) {
	for need := 1; ; {
		_, readErr := r.Peek(need)
		b, _ := r.Peek(r.Buffered())
		h, n, err := Parse(b)
		switch {
		case err == nil:
			own := h.Clone()
			_, err = r.Discard(n)
			return own, err
		case len(b) == 0 && readErr != nil:
			return nil, readErr
		case err != ErrIncomplete:
			return nil, err
		case readErr == io.EOF && !begun(b):
			return nil, ErrNoHeader
		case readErr == io.EOF:
			return nil, err
		case readErr != nil:
			return nil, readErr
		}
		size, _ := declaredSize(b)
		need = max(size, len(b)+1)
		if need > r.Size() {
			return nil, fmt.Errorf("%w: %d bytes or more, and the reader's buffer has %d",
				err, need, r.Size())
		}
	}
}

// A headerReader judges one connection's first bytes. One goroutine at a time steps it, and it
// knows nothing of locks, deadlines and contexts: whoever owns the connection reads into buf, and
// acts on the verdict.
type headerReader struct {
	cfg    *Config
	stats  *counters // nil if nobody counts
	peer   Peer      // its Conn is the inner connection
	action Action
	late   bool // the connection was handed over without a header: one that comes is too late
	buf    *buffer

	// What the verdict is about.
	size   int    // of the header; 0 if there is none
	reason Reason // why the connection is dropped, and
	err    error  // the cause
}

// A verdict is what to do with a connection.
type verdict uint8

const (
	undecided verdict = iota // read on, or see to the timeout that ended the last read
	served                   // serve it: with a header of size bytes, or without if that is 0
	ended                    // the peer ended it without having sent a byte
	dropped                  // close it, for reason and err
)

// step judges the bytes that have been read, and how the last read failed if it did. h becomes
// the header if there is one, and stays zero if not.
func (r *headerReader) step(h *Header, readErr error) verdict {
	if len(r.buf.bytes()) > 0 {
		if v := r.judge(h, readErr == io.EOF); v != undecided {
			return v
		}
	} else if isEnd(readErr) {
		return ended
	}
	switch {
	case readErr == nil, isTimeout(readErr):
		return undecided
	case isClosed(readErr):
		return r.drop(ReasonClosed, readErr)
	}
	return r.drop(ReasonBroken, readErr)
}

// judge decides by the bytes alone; eof says that no more will come.
func (r *headerReader) judge(h *Header, eof bool) verdict {
	b := r.buf.bytes()
	n, err := parse(h, b)
	bare := err == ErrNoHeader || err == ErrIncomplete && eof && !begun(b)
	switch {
	case r.late && (err == nil || begun(b)):
		*h = Header{}
		return r.drop(ReasonLate, errLate)
	case err == nil && !r.cfg.accepts(h.Version):
		err = dropReason("a " + h.Version.String() + " header isn't accepted here")
		*h = Header{}
		return r.drop(ReasonVersion, err)
	case err == nil && n > r.cfg.maxHeaderSize():
		*h = Header{}
		return r.dropTooLarge(n)
	case err == nil:
		r.size = n
		return served
	case bare && r.action != Require:
		r.size = 0
		return served
	case err == ErrNoHeader:
		return r.drop(ReasonNoHeader, notAHeader(b))
	case err != ErrIncomplete:
		return r.drop(ReasonMalformed, err)
	}
	size, _ := declaredSize(b)
	if size = max(size, len(b)); size > r.cfg.maxHeaderSize() {
		return r.dropTooLarge(size)
	}
	if eof {
		return r.drop(ReasonIncomplete, err)
	}
	return undecided
}

func (r *headerReader) drop(reason Reason, err error) verdict {
	r.reason, r.err = reason, err
	return dropped
}

func (r *headerReader) dropTooLarge(size int) verdict {
	return r.drop(ReasonTooLarge, dropReason(fmt.Sprintf(
		"a header of %d bytes or more is over the limit of %d", size, r.cfg.maxHeaderSize())))
}

// confirm makes h, by which step has decided to serve the connection, independent of the buffer
// and asks Validate, which gets a Header of its own.
func (r *headerReader) confirm(h *Header) verdict {
	if h.Version == 0 || r.action == Ignore {
		return served
	}
	h.detach()
	if r.cfg.Validate == nil {
		return served
	}
	shown := *h
	if err := r.cfg.Validate(r.peer, &shown); err != nil {
		*h = Header{}
		return r.drop(ReasonInvalid, err)
	}
	return served
}

// outcome is what a connection that is served with h counts as.
func (r *headerReader) outcome(h *Header) outcome {
	switch {
	case r.size == 0:
		return servedBare
	case r.action == Ignore:
		return servedIgnored
	case h.Version == V1:
		return servedV1
	case h.Command == Local:
		return servedLocal
	}
	return servedV2
}

// fault is what OnDrop is to be told, with report, of a connection that is dropped. It gives the
// buffer back.
func (r *headerReader) fault() *DropError {
	e := &DropError{Reason: r.reason, Err: r.err}
	if r.buf == nil {
		return e
	}
	const most = 16
	b := r.buf.bytes()
	if fault, ok := r.err.(*FormatError); ok {
		end := min(len(b), max(fault.Offset+1, most))
		b = b[max(0, end-most):end]
	}
	e.Bytes = append(e.Bytes, b[:min(len(b), most)]...)
	r.buf.release()
	r.buf = nil
	return e
}

// report counts a dropped connection and reports it to OnDrop.
func (r *headerReader) report(e *DropError) {
	r.stats.drop(e.Reason)
	if r.cfg.OnDrop != nil && e.Reason != ReasonClosed {
		r.cfg.OnDrop(r.peer, e)
	}
}

// probe counts a connection whose peer has ended it, and gives the buffer back.
func (r *headerReader) probe() {
	r.buf.release()
	r.buf = nil
	r.stats.count(probed)
}

// netConns returns conn and the connections of its NetConn chain, outermost first, as far as
// anybody stacks them.
func netConns(conn net.Conn) []net.Conn {
	const most = 32
	conns := append(make([]net.Conn, 0, 4), conn)
	for len(conns) < most {
		outer, ok := conns[len(conns)-1].(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		inner := outer.NetConn()
		if inner == nil {
			break
		}
		conns = append(conns, inner)
	}
	return conns
}

// closeChain closes a connection from the innermost of its NetConn chain outwards: a Close further
// out may wait for a Write that only the end of the inner one unblocks, as that of a *tls.Conn.
func closeChain(conn net.Conn) {
	for _, c := range slices.Backward(netConns(conn)) {
		c.Close()
	}
}

// hangUp closes conn without waiting for a Close that takes its time, as only those of other
// packages do.
func hangUp(conn net.Conn) {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		conn.Close()
	default:
		go closeChain(conn)
	}
}

// endRead makes whoever reads from conn return, without waiting itself. Package net's own sockets
// heed a deadline; of any other connection only Close is relied on, and that may take its time. It
// reports whether it closes conn.
func endRead(conn net.Conn) (closes bool) {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		conn.SetReadDeadline(aLongTimeAgo)
		return false
	}
	go closeChain(conn)
	return true
}

// isEnd reports whether a read failed because the peer has ended the connection, be it by a
// reset, as many health checks do.
func isEnd(err error) bool {
	if err == nil || err == io.EOF {
		return err != nil
	}
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "read" && !e.Timeout() && !errors.Is(err, net.ErrClosed)
}

// isClosed reports whether a connection was closed.
func isClosed(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
}

// isTimeout reports whether a deadline has ended a read, and not the kernel's patience.
func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout() && !errors.Is(err, syscall.ETIMEDOUT)
}

// The causes of drops whose Reason says all.
const (
	errRejected = dropReason("the policy rejects this peer")
	errEvicted  = dropReason("too many connections wait for their headers, " +
		"this one for the longest time")
	errLate = dropReason("a header came after the connection had been served without one")
)

// A timeoutError is the cause of ReasonTimeout.
type timeoutError struct {
	limit time.Duration
	sent  int
}

func (e timeoutError) Error() string {
	s := fmt.Sprintf("proxyproto: no PROXY header within %v: ", e.limit)
	if e.sent == 0 {
		return s + "the peer sent nothing (a server that speaks first may need Config.Lazy)"
	}
	return s + fmt.Sprintf("the peer sent only %d bytes of it", e.sent)
}

func (e timeoutError) Timeout() bool        { return true }
func (e timeoutError) Is(target error) bool { return target == os.ErrDeadlineExceeded }

func (r *headerReader) dropTimeout() verdict {
	e := timeoutError{limit: r.cfg.headerTimeout()}
	if r.buf != nil {
		e.sent = len(r.buf.bytes())
	}
	return r.drop(ReasonTimeout, e)
}

// A strangerError is the cause of ReasonNoHeader when the bytes are of a known protocol.
type strangerError string

func (e strangerError) Error() string        { return ErrNoHeader.Error() + " but " + string(e) }
func (e strangerError) Is(target error) bool { return target == ErrNoHeader }

const (
	strangerTLS = strangerError("a TLS ClientHello: the proxy sends no header, " +
		"or sends it inside TLS")
	strangerHTTP = strangerError("an HTTP request: the proxy sends no header")
	strangerSSH  = strangerError("an SSH greeting: the proxy sends no header")
)

// notAHeader says what the bytes are instead, if they are well known.
func notAHeader(b []byte) error {
	if len(b) > 2 && b[0] == 0x16 && b[1] == 3 {
		return strangerTLS
	}
	if bytes.HasPrefix(b, []byte("SSH-")) {
		return strangerSSH
	}
	for _, method := range []string{
		"GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS ", "PATCH ", "CONNECT ",
		"PRI * HTTP/2",
	} {
		if bytes.HasPrefix(b, []byte(method)) {
			return strangerHTTP
		}
	}
	return ErrNoHeader
}
