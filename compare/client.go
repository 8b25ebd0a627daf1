package main

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// client is the helper that connects.
type client struct {
	held []net.Conn // open as long as the client runs
}

func newClient() *client { return new(client) }

func (c *client) handle(req request) (reply, error) {
	switch req.Op {
	case "short":
		return c.short(req)
	case "hold":
		return reply{}, c.hold(req)
	case "write":
		return reply{}, c.write(req.Header)
	case "finish":
		return reply{}, c.finish()
	case "receive":
		return c.receive(req)
	}
	return reply{}, errors.New("no such operation")
}

// dial connects, with the header (and what follows it) as the first bytes.
func dial(addr string, first []byte) (*net.TCPConn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if len(first) > 0 {
		if _, err := c.Write(first); err != nil {
			return nil, err
		}
	}
	return c.(*net.TCPConn), nil
}

// short makes req.Conns whole connections, req.AtOnce at a time.
func (c *client) short(req request) (reply, error) {
	var wg sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(req.Conns))
	failed := make([]error, req.AtOnce)
	start := time.Now()
	for i := range req.AtOnce {
		wg.Go(func() {
			for left.Add(-1) >= 0 && failed[i] == nil {
				failed[i] = short(req)
			}
		})
	}
	wg.Wait()
	return reply{Elapsed: time.Since(start)}, errors.Join(failed...)
}

func short(req request) error {
	payload := make([]byte, lenPayload)
	first := req.Header
	if req.Gap == 0 {
		first = slices.Concat(first, payload)
	}
	c, err := dial(req.Addr, first)
	if err != nil {
		return err
	}
	defer c.Close()
	if req.Gap > 0 {
		time.Sleep(req.Gap)
		if _, err := c.Write(payload); err != nil {
			return err
		}
	}
	return readAnswer(c)
}

// readAnswer reads what a server answers, and its end. The connection is then reset when it is
// closed, so that none is left in TIME_WAIT.
func readAnswer(c *net.TCPConn) error {
	var buf [lenPayload + 1]byte
	if n, err := io.ReadFull(c, buf[:]); n != lenPayload {
		return errors.Join(errors.New("no whole answer"), err)
	}
	return c.SetLinger(0)
}

// hold opens connections, sends their headers, and leaves them open.
func (c *client) hold(req request) error {
	for range req.Conns {
		conn, err := dial(req.Addr, req.Header)
		if err != nil {
			return err
		}
		c.held = append(c.held, conn)
	}
	return nil
}

// write sends p on all connections that are held.
func (c *client) write(p []byte) error {
	for _, conn := range c.held {
		if _, err := conn.Write(p); err != nil {
			return err
		}
	}
	return nil
}

// finish waits for the answers on the connections that are held and closes them.
func (c *client) finish() error {
	for _, conn := range c.held {
		if err := readAnswer(conn.(*net.TCPConn)); err != nil {
			return err
		}
		conn.Close()
	}
	c.held = nil
	return nil
}

// receive connects to a relay or a file server, sends it req.Size bytes if it is a relay, and
// takes the time until they have all come back.
func (c *client) receive(req request) (reply, error) {
	start := time.Now()
	addr, header := req.Addr, req.Header
	if req.Sink != "" {
		source, err := dial(req.Addr, req.Header)
		if err != nil {
			return reply{}, err
		}
		go func() {
			defer source.Close()
			buf := make([]byte, 256<<10)
			for left := req.Size; left > 0; {
				n, err := source.Write(buf[:min(left, int64(len(buf)))])
				if err != nil {
					return
				}
				left -= int64(n)
			}
		}()
		addr, header = req.Sink, req.SinkHeader
	}
	sink, err := dial(addr, header)
	if err != nil {
		return reply{}, err
	}
	defer sink.Close()
	n, buf := int64(0), make([]byte, 256<<10)
	for err == nil {
		var k int
		k, err = sink.Read(buf)
		n += int64(k)
	}
	switch {
	case err != io.EOF:
		return reply{}, err
	case n != req.Size:
		return reply{}, errors.New("not all bytes arrived")
	}
	return reply{Elapsed: time.Since(start)}, nil
}
