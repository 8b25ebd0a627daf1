package main

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"time"
)

// client is the helper that connects.
type client struct {
	held []net.Conn // open until "drop" or "finish"

	// While connections are made one after the other, since "begin".
	stop  atomic.Bool
	ended chan error
	took  series // of each that was answered, in nanoseconds
	lost  int    // those that were not
}

func newClient() *client { return new(client) }

func (c *client) handle(req request) (reply, error) {
	switch req.Op {
	case "hold":
		start := time.Now()
		err := c.hold(req)
		return reply{Elapsed: time.Since(start)}, err
	case "write":
		return reply{}, c.write(req.Header)
	case "finish":
		return reply{}, c.finish()
	case "drop":
		return reply{}, c.drop()
	case "begin":
		c.begin(req)
		return reply{}, nil
	case "end":
		return c.end()
	case "receive":
		return c.receive(req)
	}
	return reply{}, errors.New("no such operation")
}

// dial connects, with the header (and what follows it) as the first bytes.
func dial(from *net.TCPAddr, addr string, first []byte) (*net.TCPConn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: false}}
	if from != nil {
		d.LocalAddr = from
	}
	c, err := d.Dial("tcp", addr)
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

// hold opens connections, sends their first bytes, and leaves them open.
func (c *client) hold(req request) error {
	for i := range req.Conns {
		var from *net.TCPAddr
		if req.Strangers {
			from = &net.TCPAddr{IP: net.IPv4(127, 254, byte(i>>8), byte(i))}
		}
		conn, err := dial(from, req.Addr, req.Header)
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
	}
	return c.drop()
}

// drop resets the connections that are held, so that none is left in TIME_WAIT.
func (c *client) drop() error {
	var errs []error
	for _, conn := range c.held {
		errs = append(errs, conn.(*net.TCPConn).SetLinger(0), conn.Close())
	}
	c.held = nil
	return errors.Join(errs...)
}

// begin makes connections one after the other, until end.
func (c *client) begin(req request) {
	c.stop.Store(false)
	c.ended = make(chan error, 1)
	c.took, c.lost = nil, 0
	first := slices.Concat(req.Header, make([]byte, lenPayload))
	go func() {
		for !c.stop.Load() {
			start := time.Now()
			switch err := short(req.Addr, first); {
			case errors.Is(err, errNoAnswer):
				c.lost++
			case err != nil:
				c.ended <- err
				return
			default:
				c.took = append(c.took, float64(time.Since(start)))
			}
		}
		c.ended <- nil
	}()
}

// end tells how long the connections since begin took.
func (c *client) end() (reply, error) {
	c.stop.Store(true)
	err := <-c.ended
	if err == nil && len(c.took) == 0 {
		err = errors.New("no connection was made")
	}
	if err != nil {
		return reply{}, err
	}
	return reply{Lost: c.lost, Median: time.Duration(c.took.median()),
		P99: time.Duration(c.took.quantile(0.99))}, nil
}

// short is a whole connection.
func short(addr string, first []byte) error {
	c, err := dial(nil, addr, first)
	if err != nil {
		return err
	}
	defer c.Close()
	return readAnswer(c)
}

// readAnswer reads what a server answers, and its end. The connection is then reset when it is
// closed, so that none is left in TIME_WAIT.
func readAnswer(c *net.TCPConn) error {
	var buf [lenPayload + 1]byte
	if n, err := io.ReadFull(c, buf[:]); n != lenPayload {
		return errors.Join(errNoAnswer, err)
	}
	return c.SetLinger(0)
}

var errNoAnswer = errors.New("no whole answer")

// receive connects to a relay or a file server, sends it req.Size bytes if it is a relay, and
// takes the time until they have all come back.
func (c *client) receive(req request) (reply, error) {
	start := time.Now()
	addr, header := req.Addr, req.Header
	if req.Sink != "" {
		source, err := dial(nil, req.Addr, req.Header)
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
	sink, err := dial(nil, addr, header)
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
