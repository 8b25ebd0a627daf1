package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// overUDP is the protocol that check asks over UDP.
const overUDP = "dns"

// askDNS sends a query behind d.head in one datagram, and again if nothing comes for half of the
// time. Silence may also be a lost datagram.
func (c *checker) askDNS(d *dialogue) (outcome, how, answer string) {
	id := uint16(rand.N(1 << 16))
	query, err := c.query(id)
	if err != nil {
		return refused, err.Error(), ""
	}
	b := make([]byte, 1<<16)
	for range 2 {
		if _, err := d.Write(append(d.head[:len(d.head):len(d.head)], query...)); err != nil {
			return c.lost(d, err)
		}
		if err := d.SetReadDeadline(time.Now().Add(c.wait / 2)); err != nil {
			return c.lost(d, err)
		}
		n, err := d.Conn.Read(b)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
		case err != nil:
			return c.lost(d, err)
		default:
			return readDNS(b[:n], id)
		}
	}
	return hangs, fmt.Sprintf("no answer within %v", c.wait), ""
}

// query asks for the address of the host, or of the root.
func (c *checker) query(id uint16) ([]byte, error) {
	name := "."
	if c.host != c.address {
		name = strings.TrimSuffix(c.host, ".") + "."
	}
	qname, err := dnsmessage.NewName(name)
	if err != nil {
		return nil, fmt.Errorf("--host: %w", err)
	}
	m := dnsmessage.Message{
		Header: dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{
			{Name: qname, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
		},
	}
	return m.Pack()
}

// readDNS judges an answer. A server that doesn't know the header takes it for a query, and answers
// another ID, if at all.
func readDNS(b []byte, id uint16) (outcome, how, answer string) {
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil {
		return refused, "answers " + quote(b[:min(len(b), previewSize)]), ""
	}
	code := strings.TrimPrefix(m.RCode.String(), "RCode")
	switch {
	case m.ID != id:
		return refused, "answers what wasn't asked, " + code, ""
	case m.RCode == dnsmessage.RCodeFormatError:
		return refused, "DNS " + code, ""
	}
	return taken, "DNS " + code, addressesIn(&m)
}

// addressesIn lists what an answer says of addresses, and their ports: CoreDNS's whoami tells so
// who has asked.
func addressesIn(m *dnsmessage.Message) string {
	var all []string
	for _, r := range append(m.Answers, m.Additionals...) {
		switch body := r.Body.(type) {
		case *dnsmessage.AResource:
			all = append(all, net.IP(body.A[:]).String())
		case *dnsmessage.AAAAResource:
			all = append(all, net.IP(body.AAAA[:]).String())
		case *dnsmessage.SRVResource:
			all = append(all, fmt.Sprint(body.Port))
		}
	}
	return strings.Join(all, " ")
}

// lost judges the network's error. Of UDP it is only now that one hears that nobody listens.
func (c *checker) lost(d *dialogue, err error) (outcome, how, answer string) {
	if errors.Is(err, syscall.ECONNREFUSED) {
		d.err = networkError(nobodyListens(c.address))
	}
	outcome, how = ending(err)
	return outcome, how, ""
}
