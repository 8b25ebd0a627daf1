package main

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/wiretest"
	"github.com/seed2e8fe8ee/proxyproto/proxyudp"
)

// dnsServer answers each query with the address and port of who asked, as CoreDNS's whoami does.
func dnsServer(t *testing.T, action proxyproto.Action) string {
	t.Helper()
	inner, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	pc, err := proxyudp.NewPacketConn(inner, &proxyudp.Config{Policy: proxyproto.Always(action)})
	require.NoError(t, err)
	t.Cleanup(func() { pc.Close() })
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil {
				continue // a header, under Skip
			}
			client := from.(*net.UDPAddr).AddrPort()
			m.Response = true
			m.Additionals = []dnsmessage.Resource{
				{
					Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name,
						Class: dnsmessage.ClassINET},
					Body: &dnsmessage.AResource{A: client.Addr().Unmap().As4()},
				},
				{
					Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name,
						Class: dnsmessage.ClassINET},
					Body: &dnsmessage.SRVResource{Port: client.Port(),
						Target: m.Questions[0].Name},
				},
			}
			answer, err := m.Pack()
			if err == nil {
				pc.WriteTo(answer, from)
			}
		}
	}()
	return pc.LocalAddr().String()
}

// TestCheckDNS: what it says of a server's datagrams, under each Action.
func TestCheckDNS(t *testing.T) {
	for action, want := range map[proxyproto.Action]struct {
		policy, believed string
		code             int
	}{
		proxyproto.Require:  {policyRequired, "yes", exitOK},
		proxyproto.Optional: {policyOptional, "yes", exitMalformed},
		proxyproto.Ignore:   {policyIgnored, "no", exitOK},
		proxyproto.Skip:     {policyNone, "unknown", exitNoHeader},
		proxyproto.Reject:   {policyUnknown, "unknown", exitIncomplete},
	} {
		t.Run(action.String(), func(t *testing.T) {
			t.Parallel()
			report, r := checked(t, "--dns", "--wait", "2s", dnsServer(t, action))
			assert.Equal(t, want.policy, report.Policy, r.stdout)
			assert.Equal(t, want.believed, report.Believed)
			assert.Equal(t, want.code, r.code)
			assert.Equal(t, "dns", report.Protocol)
			if want.policy != policyRequired {
				return
			}
			assert.Equal(t, []string{"v2"}, report.Versions)
			for name, outcome := range map[string]string{
				"local": taken, "tcp": taken, "tlv": taken, "bad-crc": hangs, "second": hangs,
				"none": hangs,
			} {
				assert.Equal(t, outcome, report.outcome(name), name)
			}
			for _, name := range []string{"v1", "split-v1", "endless", "late", "silence"} {
				assert.Nil(t, report.result(name), name)
			}
		})
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	pc.Close()
	_, r := checked(t, "--dns", pc.LocalAddr().String())
	assert.Equal(t, exitNetwork, r.code)
	assert.Contains(t, r.stderr, "connection refused: nobody listens there")
}

// TestReadDNS: answers that say that the header wasn't understood.
func TestReadDNS(t *testing.T) {
	pack := func(id uint16, code dnsmessage.RCode) []byte {
		m := dnsmessage.Message{Header: dnsmessage.Header{ID: id, Response: true, RCode: code}}
		b, err := m.Pack()
		require.NoError(t, err)
		return b
	}
	for _, c := range []struct {
		answer  []byte
		outcome string
		how     string
	}{
		{pack(7, dnsmessage.RCodeSuccess), taken, "DNS Success"},
		{pack(7, dnsmessage.RCodeRefused), taken, "DNS Refused"},
		{pack(7, dnsmessage.RCodeFormatError), refused, "DNS FormatError"},
		{pack(0x0d0a, dnsmessage.RCodeNotImplemented), refused,
			"answers what wasn't asked, NotImplemented"},
		{[]byte("\x1b[2J"), refused, `answers "\x1b[2J"`},
	} {
		outcome, how, _ := readDNS(c.answer, 7)
		assert.Equal(t, c.outcome, outcome)
		assert.Equal(t, c.how, how)
	}
}

// TestProbesAreVectors: each probe's bytes are those of a row of the vectors, but for its
// addresses;
// and a finding's level is what the row allows: to refuse what must be accepted, or accept what
// must
// be refused, breaks a rule, unless the row leaves a choice.
func TestProbesAreVectors(t *testing.T) {
	rows := map[[2]string]wiretest.Row{}
	choices := map[[2]string]string{}
	for _, r := range wiretest.Rows() {
		rows[[2]string{r.Section, r.Name}] = r
		choices[[2]string{r.Section, r.Name}] = r.Vector().Choice
	}
	vectors := map[string][2]string{
		"v2":      {"2.2", "tcp4"},
		"v1":      {"2.1", "example"},
		"unknown": {"2.1", "unknown, short form"},
		"local":   {"2.2", "local"},
		"udp":     {"2.2", "udp4"},
		"tcp":     {"2.2", "tcp4"},
		"tlv":     {"2.2.8", "reserved type 0xef"},
		"bad-crc": {"2.2.3", "checksum zero"},
		"second":  {"2.2", "tcp4 before another header"},
	}
	for name, key := range vectors {
		row, ok := rows[key]
		require.True(t, ok, key)
		h := &proxyproto.Header{
			Version: proxyproto.V2, Command: proxyproto.Proxy, Protocol: proxyproto.TCP4,
			Source:      rows[vectors["v2"]].Want.Source,
			Destination: rows[vectors["v2"]].Want.Destination,
		}
		make := wires[name]
		switch name {
		case "second":
			make = twice(wires["v2"])
		case "tcp": // as over UDP
			h.Protocol = proxyproto.UDP4
		}
		b, err := make(h)
		require.NoError(t, err)
		assert.Equal(t, row.Wire, b, name)
		for _, r := range rules {
			if r.probe != name || name == "second" { // of which the first alone is a header
				continue
			}
			level := breaks
			switch {
			case choices[key] != "" && row.Err == nil:
				level = should
			case choices[key] != "":
				level = note
			}
			assert.Equal(t, level, r.finding.Level, name)
			assert.Equal(t, row.Err == nil, r.outcome == refused, name)
		}
	}
	for name := range names {
		switch name {
		// about time, which rows aren't
		case "none", "split-v1", "split-v2", "endless", "late", "silence":
		default:
			assert.Contains(t, vectors, name)
		}
	}
}
