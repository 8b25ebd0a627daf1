package proxyhttp

import (
	"errors"
	"fmt"
	"io"
	"net"
)

// A conn is a session's connection to a server.
type conn struct {
	net.Conn
	of  *session
	all *sessions
}

func (c *conn) Close() error {
	c.all.remove(c)
	return c.Conn.Close()
}

// ReadFrom lets a file be sent by the kernel.
func (c *conn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }

func (c *conn) CloseWrite() error { return closeWrite(c.Conn) }

func closeWrite(c any) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return fmt.Errorf("proxyhttp: a %T can't end its writing alone: %w", c, errors.ErrUnsupported)
}

// body is a response's, until whose end the connection is in use.
type body struct {
	io.ReadCloser
	release func()
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.release()
	}
	return n, err
}

func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.release()
	return err
}

// upgraded is the body of a response after which the connection speaks another protocol. It is in
// use until it is closed: while one end may be reached the other can still be written to.
type upgraded struct {
	io.ReadWriteCloser
	release func()
}

func (u *upgraded) Close() error {
	err := u.ReadWriteCloser.Close()
	u.release()
	return err
}

func (u *upgraded) CloseWrite() error { return closeWrite(u.ReadWriteCloser) }
