package servertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/seed2e8fe8ee/proxyproto"
)

const (
	headerTimeout = 5 * time.Second // of a Config that says nothing else
	evictedAt     = time.Second     // when another connection takes the place of one that waits
	greeting      = "220 ready\r\n"
	farewell      = "221 bye\r\n"
)

// A part of what a client sends, and when, counted from its connecting.
type part struct {
	at   time.Duration
	text string
}

// A situation is what a client does. It connects, reads all that the server says, sends its parts
// and ends its side of the connection.
type situation struct {
	name    string
	parts   []part
	greeted bool // the parts' times count from the server's greeting
	evicted bool // MaxPending is 1, and at evictedAt another client connects
	stays   bool // it doesn't end its side
}

var situations = []situation{
	{name: "stays silent", stays: true},
	{name: "ends its side without a byte"},
	{name: "ends its side without a byte, after HeaderTimeout",
		parts: []part{{headerTimeout + 1, ""}}},
	{name: "waits for the greeting, speaks", parts: []part{{0, "hello"}}, greeted: true},
	{name: "waits for the greeting, sends a header",
		parts: []part{{0, testLineV1 + "hello"}}, greeted: true},
	{name: "is silent when MaxPending is reached, speaks an hour later",
		parts: []part{{time.Hour, "hello"}}, evicted: true},
	{name: "is silent when MaxPending is reached, sends a header an hour later",
		parts: []part{{time.Hour, testLineV1 + "hello"}}, evicted: true},
	{name: "sends a header at once", parts: []part{{0, testLineV1 + "hello"}}},
	{name: "sends a header in two parts, before and after HeaderTimeout",
		parts: []part{
			{headerTimeout - 1, testLineV1[:9]}, {headerTimeout + 1, testLineV1[9:] + "hello"}}},
	{name: "sends a header after HeaderTimeout",
		parts: []part{{headerTimeout + 1, testLineV1 + "hello"}}},
	{name: "sends half a header and no more", parts: []part{{0, testLineV1[:9]}}, stays: true},
	{name: "sends half a header and ends", parts: []part{{0, testLineV1[:9]}}},
	{name: "sends a malformed header", parts: []part{{0, "PROXY TCP9 hello"}}},
	{name: "speaks at once, without a header", parts: []part{{0, "hello"}}},
	{name: "sends what may begin a header (`PRO`) and ends", parts: []part{{0, "PRO"}}},
}

// The page's tables say what comes of each situation, by the Action: they are made here of what
// does.
func TestSituations(t *testing.T) {
	page, err := os.ReadFile("../../docs/trust.md")
	require.NoError(t, err)
	eager := "| the client | require | optional | ignore | skip | reject |\n" +
		"|---|---|---|---|---|---|\n"
	lazy := "| the client | require | require, `ReadHeader` | optional | optional, `ReadHeader` |\n" +
		"|---|---|---|---|---|\n"
	for _, s := range situations {
		eager += "| " + s.name + " |"
		lazy += "| " + s.name + " |"
		for _, action := range []Action{Require, Optional, Ignore, Skip, Reject} {
			outcome := s.outcome(t, action, false, false)
			whenRead, readHeader := s.outcome(t, action, true, false), s.outcome(t, action, true, true)
			eager += " " + outcome + " |"
			if action == Require || action == Optional {
				lazy += " " + whenRead + " | " + readHeader + " |"
				continue
			}
			assert.Equal(t, outcome, whenRead, "%v isn't changed by Lazy: %s", action, s.name)
			assert.Equal(t, outcome, readHeader, "%v isn't changed by ReadHeader: %s", action, s.name)
		}
		eager += "\n"
		lazy += "\n"
	}
	for _, table := range []string{eager, lazy} {
		t.Log("\n" + table)
		title, _, _ := strings.Cut(table, "\n")
		_, rest, found := strings.Cut(string(page), title)
		written, _, _ := strings.Cut(rest, "\n\n")
		if assert.True(t, found, "docs/trust.md has no table %q", title) {
			assert.Equal(t, title+written+"\n", table, "docs/trust.md")
		}
	}
}

func (s situation) sent() (all string) {
	for _, p := range s.parts {
		all += p.text
	}
	return all
}

// outcome says in a few words what becomes of the client's connection, as the server sees it.
func (s situation) outcome(t *testing.T, action Action, lazy, readHeader bool) (words string) {
	cell := fmt.Sprintf("%v, lazy %v, ReadHeader %v: %s", action, lazy, readHeader, s.name)
	synctest.Test(t, func(t *testing.T) {
		end, conn := halfClosingPipe()
		start := time.Now()
		client := &speaker{halfClosing: end, greeted: make(chan struct{}), spoke: start}
		view := &serverView{conn: conn, start: start, readHeader: readHeader}
		cfg := &Config{Policy: Always(action), Lazy: lazy, OnDrop: view.onDrop}
		if s.evicted {
			cfg.MaxPending = 1
		}
		inner := newPipeListener()
		ln, err := NewListener(inner, cfg)
		require.NoError(t, err)
		defer ln.Close()
		defer client.Close()
		go view.serve(t, ln)
		inner.conns <- conn
		go client.listen()
		go client.speak(s)
		if s.evicted {
			time.Sleep(evictedAt)
			other := inner.dial()
			time.AfterFunc(2*time.Hour, func() { other.Close() })
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		words = view.words(t, cell, client, s.sent())
		client.Close()
		synctest.Wait()
		require.NoError(t, ln.Close())
		st := ln.Stats()
		counted := st.V1 + st.Bare + st.Ignored + st.Skipped + st.Probes + st.TotalDropped()
		assert.Equal(t, st.Accepted, counted, "%s: %+v", cell, st)
	})
	return words
}

// A speaker is the client's end, and what the client notes.
type speaker struct {
	halfClosing
	greeted chan struct{} // closed when the greeting has come, or can't come any more
	spoke   time.Time     // when it sent the last part
	heard   []byte
	ended   bool // the server's side has closed the connection
}

func (c *speaker) listen() {
	c.heard = make([]byte, len(greeting))
	n, err := io.ReadFull(c, c.heard)
	c.heard = c.heard[:n]
	close(c.greeted)
	for b := make([]byte, 64); err == nil; {
		n, err = c.Read(b)
		c.heard = append(c.heard, b[:n]...)
	}
	c.ended = err == io.EOF
}

func (c *speaker) speak(s situation) {
	if s.greeted {
		<-c.greeted
	}
	start := time.Now()
	for _, p := range s.parts {
		time.Sleep(p.at - time.Since(start))
		c.spoke = time.Now()
		if p.text == "" {
			break // a pipe would deliver it
		}
		if _, err := io.WriteString(c, p.text); err != nil {
			return
		}
	}
	if !s.stays {
		c.CloseWrite()
	}
}

// A serverView is what a server that speaks first sees of one connection. It closes nothing, and
// the client only its own side: what is closed, the Listener or the Conn has closed.
type serverView struct {
	conn       net.Conn // as the inner listener returned it
	start      time.Time
	readHeader bool // it calls that before it reads

	accepted    bool
	at          time.Duration // when Accept returned it
	first, last string        // whose addresses it had then, and after it was read
	payload     []byte
	done        bool  // Read has ended it
	err         error // that of ReadHeader or Read; nil at the client's end

	drops   []Reason
	dropped time.Duration // when
}

func (v *serverView) onDrop(p Peer, drop *DropError) {
	if p.Conn == v.conn {
		v.drops = append(v.drops, drop.Reason)
		v.dropped = time.Since(v.start)
	}
}

// serve serves all connections, and notes what it sees of one.
func (v *serverView) serve(t *testing.T, ln *Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			assert.ErrorIs(t, err, net.ErrClosed)
			return
		}
		if pc, ok := FromConn(c); c == v.conn || ok && pc.NetConn() == v.conn {
			go v.read(c)
		} else {
			go io.Copy(io.Discard, c)
		}
	}
}

func (v *serverView) read(c net.Conn) {
	v.accepted, v.at = true, time.Since(v.start)
	v.first = whose(c)
	v.last = v.first
	io.WriteString(c, greeting)
	if pc, ok := FromConn(c); ok && v.readHeader {
		v.err = pc.ReadHeader(context.Background())
	}
	for b := make([]byte, 64); v.err == nil; {
		var n int
		n, v.err = c.Read(b)
		v.payload = append(v.payload, b[:n]...)
		v.last = whose(c)
	}
	v.done = true
	io.WriteString(c, farewell) // fails if the connection was closed
}

// words are the outcome. What the client says of it has to agree.
func (v *serverView) words(t *testing.T, cell string, client *speaker, sent string) string {
	var words []string
	said := ""
	if v.accepted {
		words = append(words, v.first+v.when(client))
		if v.last != v.first {
			words = append(words, "then "+v.last)
		}
		said = greeting
	}
	if v.done && !client.ended {
		said += farewell
	}
	assert.Equal(t, said, string(client.heard), cell)
	switch got := string(v.payload); {
	case client.ended && got == "":
	case client.ended || got != sent && got != "hello":
		words = append(words, fmt.Sprintf("reads %q", got))
	case strings.HasPrefix(got, "PROXY"):
		words = append(words, "header is payload")
	case !v.done:
		words = append(words, "waits")
	case got == "":
		words = append(words, "the end")
	}
	for _, reason := range v.drops {
		words = append(words, "closed: "+reason.String())
		assert.Equal(t, v.due(reason, client), v.dropped, "%s: %v", cell, reason)
		if v.accepted {
			assert.Equal(t, reason, requireDrop(t, v.err).Reason, cell)
		}
	}
	assert.True(t, client.ended || len(v.drops) == 0, "%s: dropped, and not closed", cell)
	if client.ended && len(v.drops) == 0 {
		words = append(words, "closed: a probe")
	}
	return strings.Join(words, ", ")
}

// when says when Accept returned the connection, unless that was at once or when the client spoke.
func (v *serverView) when(client *speaker) string {
	switch v.at {
	case headerTimeout:
		return " after HeaderTimeout"
	case evictedAt:
		return " at MaxPending"
	case 0, client.spoke.Sub(v.start):
		return ""
	}
	return fmt.Sprintf(" after %v", v.at)
}

// due is when a connection that is dropped for a reason has to be.
func (v *serverView) due(reason Reason, client *speaker) time.Duration {
	switch reason {
	case ReasonRejected:
		return 0
	case ReasonEvicted:
		return evictedAt
	case ReasonTimeout:
		return headerTimeout
	}
	return client.spoke.Sub(v.start)
}

// whose says whose addresses c has.
func whose(c net.Conn) string {
	switch addrs := fmt.Sprintf("%v to %v", c.RemoteAddr(), c.LocalAddr()); addrs {
	case testSource + " to " + testDestination:
		return "client"
	case "pipe to pipe":
		return "peer"
	default:
		return addrs
	}
}

// halfClosing is one end of a connection of two pipes, which can be closed one by one. The embedded
// one is read.
type halfClosing struct {
	net.Conn
	out net.Conn
}

func halfClosingPipe() (client, server halfClosing) {
	in, up := net.Pipe()
	out, down := net.Pipe()
	return halfClosing{down, up}, halfClosing{in, out}
}

func (c halfClosing) Write(b []byte) (int, error)        { return c.out.Write(b) }
func (c halfClosing) SetWriteDeadline(t time.Time) error { return c.out.SetWriteDeadline(t) }
func (c halfClosing) CloseWrite() error                  { return c.out.Close() }

func (c halfClosing) SetDeadline(t time.Time) error {
	return errors.Join(c.Conn.SetDeadline(t), c.out.SetDeadline(t))
}

func (c halfClosing) Close() error {
	return errors.Join(c.Conn.Close(), c.out.Close())
}
