package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/seed2e8fe8ee/proxyproto"
)

// headerFlags are the flags that say what header to send.
type headerFlags struct {
	v1, local, unknown  bool
	source, destination string

	crc32c                           bool
	alpn, authority, uniqueID, netns optional
	sslVersion, sslCipher, sslCN     optional
	sslVerify                        optional
	custom                           customTLVs
}

// optional is a string flag that may be given as empty.
type optional struct {
	given bool
	value string
}

func (o *optional) String() string     { return o.value }
func (o *optional) Set(s string) error { o.given, o.value = true, s; return nil }
func (o *optional) Type() string       { return "string" }

// customTLVs is a flag that can be repeated, for a TLV each time.
type customTLVs struct{ proxyproto.TLVs }

func (c *customTLVs) String() string { return "" }
func (c *customTLVs) Type() string   { return "string" }

func (f *headerFlags) register(fs *pflag.FlagSet) {
	fs.BoolVar(&f.v1, "v1", false, "send version 1, the text (default: version 2)")
	fs.StringVar(&f.source, "source", "", "the client's `address`: IP:port, IP, /path or @name")
	fs.StringVar(&f.destination, "destination", "",
		"the `address` that the client connected to, likewise")
	fs.BoolVar(&f.local, "local", false, "say that the connection is the proxy's own (LOCAL)")
	fs.BoolVar(&f.unknown, "unknown", false, "say that the client is unknown (UNKNOWN in version "+
		"1, UNSPEC in version 2)")
	fs.BoolVar(&f.crc32c, "crc32c", false, "with a checksum")
	fs.Var(&f.alpn, "alpn", "the application `protocol` that the client negotiated, h2 for example")
	fs.Var(&f.authority, "authority", "the host `name` that the client asked for")
	fs.Var(&f.uniqueID, "unique-id", "the connection's `ID`")
	fs.Var(&f.netns, "netns", "the network `namespace` of the addresses")
	fs.Var(&f.sslVersion, "ssl-version", "the client used TLS of this `version`, TLSv1.3 for "+
		"example")
	fs.Var(&f.sslCipher, "ssl-cipher", "the client used TLS with this `cipher`")
	fs.Var(&f.sslCN, "ssl-cn", "the client used TLS with a certificate for this `name`")
	fs.Var(&f.sslVerify, "ssl-verify", "the `number` that says how verifying it ended (default 0, "+
		"verified, with --ssl-cn, and otherwise 1)")
	fs.Var(&f.custom, "tlv", "a TLV, `type=hex` or type:text, 0xE0=c0ffee for example; can be "+
		"repeated")
}

// Set adds a TLV.
func (c *customTLVs) Set(s string) error {
	i := strings.IndexAny(s, "=:")
	if i < 0 {
		return errors.New("it is type=hex or type:text")
	}
	typ, err := strconv.ParseUint(s[:i], 0, 8)
	if err != nil {
		return fmt.Errorf("the type %q isn't a number from 0 to 255", s[:i])
	}
	value := []byte(s[i+1:])
	if s[i] == '=' {
		if value, err = hex.DecodeString(s[i+1:]); err != nil {
			return fmt.Errorf("the value isn't hexadecimal: %v", err)
		}
	}
	c.TLVs, err = c.Append(proxyproto.TLVType(typ), value)
	return err
}

// make returns the header for a connection from local to remote, and checks that it can be sent.
func (f *headerFlags) make(udp bool, local, remote net.Addr) (*proxyproto.Header, error) {
	h := &proxyproto.Header{Version: proxyproto.V2, Command: proxyproto.Proxy}
	if f.v1 {
		h.Version = proxyproto.V1
	}
	switch {
	case f.local && f.unknown:
		return nil, errors.New("--local and --unknown don't go together")
	case f.local || f.unknown:
		if f.source != "" || f.destination != "" {
			return nil, errors.New("--local and --unknown headers have no --source and no " +
				"--destination")
		}
		if f.local {
			h.Command = proxyproto.Local
		}
	case isPath(f.source) || isPath(f.destination):
		unix, err := proxyproto.NewUnixAddrs(f.source, f.destination)
		if err != nil {
			return nil, err
		}
		h.Protocol, h.Unix = proxyproto.UnixStream, unix
		if udp {
			h.Protocol = proxyproto.UnixDatagram
		}
	default:
		if err := f.setAddrs(h, udp, endpointOf(local), endpointOf(remote)); err != nil {
			return nil, err
		}
	}
	var err error
	if h.TLVs, err = f.tlvs(); err != nil {
		return nil, err
	}
	_, err = h.AppendTo(nil)
	return h, err
}

func isPath(s string) bool { return strings.HasPrefix(s, "/") || strings.HasPrefix(s, "@") }

func (f *headerFlags) setAddrs(h *proxyproto.Header, udp bool, local, remote netip.AddrPort) error {
	var err error
	if h.Source, err = endpoint("source", f.source, local); err != nil {
		return err
	}
	if h.Destination, err = endpoint("destination", f.destination, remote); err != nil {
		return err
	}
	source, destination := h.Source.Addr(), h.Destination.Addr()
	switch {
	case source.Is4() != destination.Is4():
		return fmt.Errorf("the source %v and the destination %v aren't both IPv4 or both IPv6: "+
			"give --source and --destination", source, destination)
	case source.Is4() && udp:
		h.Protocol = proxyproto.UDP4
	case source.Is4():
		h.Protocol = proxyproto.TCP4
	case udp:
		h.Protocol = proxyproto.UDP6
	default:
		h.Protocol = proxyproto.TCP6
	}
	return nil
}

// endpoint reads the value of the --source or --destination flag. What it doesn't say is the
// socket's.
func endpoint(name, s string, socket netip.AddrPort) (netip.AddrPort, error) {
	if s == "" {
		if !socket.IsValid() {
			return socket, fmt.Errorf("say the --%s: there is no IP connection to take it from",
				name)
		}
		return socket, nil
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(addr, socket.Port()), nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return ap, fmt.Errorf("--%s %q is neither IP:port, IP, /path nor @name", name, s)
	}
	return ap, nil
}

// tlvs returns the TLVs in the order in which HAProxy sends them, and then the custom ones.
func (f *headerFlags) tlvs() (proxyproto.TLVs, error) {
	var t proxyproto.TLVs
	var err error
	if f.crc32c {
		t, _ = t.Append(proxyproto.TypeCRC32C, make([]byte, 4))
	}
	for _, o := range []struct {
		typ proxyproto.TLVType
		optional
	}{
		{proxyproto.TypeALPN, f.alpn},
		{proxyproto.TypeAuthority, f.authority},
		{proxyproto.TypeUniqueID, f.uniqueID},
		{proxyproto.TypeNetNS, f.netns},
	} {
		if o.given && err == nil {
			t, err = t.Append(o.typ, []byte(o.value))
		}
	}
	if err != nil {
		return nil, err
	}
	if t, err = f.appendSSL(t); err != nil {
		return nil, err
	}
	if len(t)+len(f.custom.TLVs) > 65535 {
		return nil, errors.New("the TLVs have more than 65535 bytes")
	}
	return append(t, f.custom.TLVs...), nil
}

func (f *headerFlags) appendSSL(t proxyproto.TLVs) (proxyproto.TLVs, error) {
	if !f.sslVersion.given && !f.sslCipher.given && !f.sslCN.given && !f.sslVerify.given {
		return t, nil
	}
	s := proxyproto.SSL{Client: proxyproto.ClientSSL, Verify: proxyproto.Unverified}
	if f.sslCN.given {
		s.Client |= proxyproto.ClientCertConn | proxyproto.ClientCertSess
		s.Verify = 0
	}
	if f.sslVerify.given {
		n, err := strconv.ParseUint(f.sslVerify.value, 0, 32)
		if err != nil {
			return nil, fmt.Errorf("--ssl-verify %q isn't a number of 32 bits", f.sslVerify.value)
		}
		s.Verify = uint32(n)
	}
	var err error
	for _, o := range []struct {
		typ proxyproto.TLVType
		optional
	}{
		{proxyproto.SubtypeSSLVersion, f.sslVersion},
		{proxyproto.SubtypeSSLCN, f.sslCN},
		{proxyproto.SubtypeSSLCipher, f.sslCipher},
	} {
		if o.given && err == nil {
			s.TLVs, err = s.TLVs.Append(o.typ, []byte(o.value))
		}
	}
	if err != nil {
		return nil, err
	}
	return s.AppendTo(t)
}
