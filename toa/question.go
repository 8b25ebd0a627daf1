package toa

import (
	"fmt"
	"sync"
	"syscall"

	"github.com/seed2e8fe8ee/proxyproto/toa/internal/sockopt"
)

// A question is one look at what the agent says of a socket. Its put is for RawConn.Control.
//
// They are pooled because put escapes to the heap, with all that it refers to: that saves two
// allocations of a connection's four. A caller that knows its connection's type saves SyscallConn's,
// which is why Control is left to it.
type question struct {
	put    func(fd uintptr)
	answer sockopt.Answer
	err    error
}

var questions = sync.Pool{New: func() any {
	q := new(question)
	q.put = func(fd uintptr) {
		q.err = sockopt.Ask(int(fd), &q.answer)
	}
	return q
}}

func newQuestion() *question { return questions.Get().(*question) }

// result ends the question, given what Control returned.
func (q *question) result(control error) (sockopt.Answer, error) {
	a, err := q.answer, q.err
	questions.Put(q)
	switch {
	case control != nil:
		return sockopt.Answer{}, fmt.Errorf("toa: %w", control)
	case err != nil:
		return sockopt.Answer{}, err
	}
	return a, check(&a)
}

// probe asks whether an agent answers for a listening socket. Those that it accepts are in its
// cgroup, whichever the process is in.
func probe(listener syscall.Conn) error {
	q := newQuestion()
	socket, err := listener.SyscallConn()
	if err == nil {
		err = socket.Control(q.put)
	}
	_, err = q.result(err)
	return err
}
