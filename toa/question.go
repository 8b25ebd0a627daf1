package toa

import (
	"fmt"
	"sync"
	"syscall"
)

// A question is one look at what the agent says of a socket. Its put is for RawConn.Control.
//
// They are pooled because put escapes to the heap, with all that it refers to: that saves two
// allocations of a connection's four. A caller that knows its connection's type saves SyscallConn's,
// which is why Control is left to it.
type question struct {
	put    func(fd uintptr)
	answer answer
	err    error
}

var questions = sync.Pool{New: func() any {
	q := new(question)
	q.put = func(fd uintptr) {
		if q.err = getsockopt(int(fd), &q.answer); q.err == nil && q.answer.early() {
			settle(int(fd))
			q.err = getsockopt(int(fd), &q.answer)
		}
	}
	return q
}}

func newQuestion() *question { return questions.Get().(*question) }

// result ends the question, given what Control returned.
func (q *question) result(control error) (answer, error) {
	a, err := q.answer, q.err
	questions.Put(q)
	switch {
	case control != nil:
		return answer{}, fmt.Errorf("toa: %w", control)
	case err != nil:
		return answer{}, err
	}
	return a, a.check()
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
