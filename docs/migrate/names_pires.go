//lint:file-ignore SA1019 Deprecated names are in the table too.

package migrate

import (
	"bufio"
	"context"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"time"

	pires "github.com/pires/go-proxyproto"
	pireshttp2 "github.com/pires/go-proxyproto/helper/http2"
	"github.com/pires/go-proxyproto/tlvparse"
	"golang.org/x/net/http2"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/cloudtlv"
	"github.com/seed2e8fe8ee/proxyproto/proxyhttp"
	"github.com/seed2e8fe8ee/proxyproto/proxyudp"
)

// Section: Listening

// Without a Policy ours is an error; theirs believes everybody.
func _(inner net.Listener) { _ = &pires.Listener{Listener: inner} }
func _(inner net.Listener, policy proxyproto.Policy) {
	_, _ = proxyproto.NewListener(inner, &proxyproto.Config{Policy: policy})
}

// Ours returns a connection when its header is there, and never an error for what a peer is or does.
func _(ln *pires.Listener)      { _, _ = ln.Accept() }
func _(ln *proxyproto.Listener) { _, _ = ln.Accept() }

// Ours closes connections that wait for their headers too.
func _(ln *pires.Listener)      { _, _ = ln.Close(), ln.Addr() }
func _(ln *proxyproto.Listener) { _, _ = ln.Close(), ln.Addr() }

// Theirs: 10 s from the first Read, Write or RemoteAddr. Ours: 5 s from Accept; under Optional from the first byte, after as much silence at most.
func _() { _ = pires.Listener{ReadHeaderTimeout: 3 * time.Second} }
func _() { _ = proxyproto.Config{HeaderTimeout: 3 * time.Second} }

// No limit: any negative value in theirs, -1 alone in ours. Then only MaxPending ends the wait in Accept. A program whose own zero means "none" has to say so: zero is the default in both.
func _() {
	_ = pires.Listener{ReadHeaderTimeout: -1}
	_ = pires.Listener{ReadHeaderTimeout: math.MaxInt64}
}
func _() { _ = proxyproto.Config{HeaderTimeout: -1} }

// Ours is told the peer as well.
func _() {
	_ = pires.Listener{ValidateHeader: func(h *pires.Header) error { return nil }}
	var _ pires.Validator
}
func _() {
	_ = proxyproto.Config{Validate: func(p proxyproto.Peer, h *proxyproto.Header) error { return nil }}
}

// Ours has buffers of 8 KB, which are shared: a connection has one until what came with its header is read. They grow with a longer header, up to this limit.
func _() { _, _ = pires.Listener{ReadBufferSize: 1024}, pires.WithBufferSize(1024) }
func _() { _ = proxyproto.Config{MaxHeaderSize: 8192} }

// Theirs is the same for the whole program; a limit for the length field, in ours for the whole header.
func _() { pires.MaxV2HeaderSize = 8192 }
func _() { _ = proxyproto.Config{MaxHeaderSize: 8192} }

// Theirs is the same for the whole program.
func _() { pires.DefaultReadHeaderTimeout = 3 * time.Second }
func _() { _ = proxyproto.Config{HeaderTimeout: 3 * time.Second} }

// Not to be had: a policy for every listener, said where the listener is made.
func _() { pires.DefaultPolicy = pires.USE }
func _() {}

// Always taken, as nginx' realip module writes them, and on TCP4 lines too: two IPv4 addresses are TCP4; of two families, both are IPv6.
func _() { pires.V1AcceptIPv4InTCP6 = true }
func _() {}

// Section: Policies

// Addresses are plain: IPv4-mapped ones come as IPv4, and without zone. There is no error to return.
func _(decide func(upstream, downstream net.Addr) (pires.Policy, error)) {
	_ = pires.Listener{ConnPolicy: func(o pires.ConnPolicyOptions) (pires.Policy, error) { return decide(o.Upstream, o.Downstream) }}
}
func _(decide func(peer, local netip.AddrPort) proxyproto.Action) {
	_ = proxyproto.Config{Policy: func(p proxyproto.Peer) proxyproto.Action { return decide(p.Addr, p.Local) }}
}

// The same, without the local address.
func _() {
	_ = pires.Listener{Policy: func(upstream net.Addr) (pires.Policy, error) { return pires.REQUIRE, nil }}
}
func _() {
	_ = proxyproto.Config{Policy: func(p proxyproto.Peer) proxyproto.Action { return proxyproto.Require }}
}

// The types.
func _() {
	var _ pires.PolicyFunc
	var _ pires.ConnPolicyFunc
	var _ pires.Policy
}
func _() {
	var _ proxyproto.Policy
	var _ proxyproto.Action
}

// Theirs keeps the connection and fails its reads and writes; ours closes it before Accept returns it.
func _() { _ = pires.REQUIRE }
func _() { _ = proxyproto.Require }

// For a migration only. Both serve a peer that says nothing until the limit; a header that comes then closes the connection in ours, and is payload in theirs.
func _() { _ = pires.USE }
func _() { _ = proxyproto.Optional }

// The same for a peer that sends something. Ours doesn't wait for it: the connection is handed over at once, and a header taken off whenever it comes. In theirs RemoteAddr and Write wait, and a header after the limit is payload.
func _() { _ = pires.IGNORE }
func _() { _ = proxyproto.Ignore }

// **Not the same as Reject**, which closes the connection at once. Theirs serves whoever sends no header and fails for the others: that is Optional, and a Validate that refuses the header (it is told the peer too, if that is to hold for some).
func _() { _ = pires.REJECT }
func _(unexpected error) {
	_ = proxyproto.Config{Policy: proxyproto.Always(proxyproto.Optional), Validate: func(proxyproto.Peer, *proxyproto.Header) error { return unexpected }}
}

// The same with a Listener. Theirs with NewConn takes a header off; ours never looks.
func _() { _ = pires.SKIP }
func _() { _ = proxyproto.Skip }

// To close a connection.
func _() (pires.Policy, error) { return pires.REJECT, pires.ErrInvalidUpstream }
func _() proxyproto.Action     { return proxyproto.Reject }

// Require from these, all others are closed: in both.
func _(ip net.IP)     { _ = pires.TrustProxyHeaderFrom(ip) }
func _(ip netip.Addr) { _ = proxyproto.Trust(netip.PrefixFrom(ip, ip.BitLen())) }

// The same.
func _() { _, _ = pires.TrustProxyHeaderFromRanges([]string{"10.0.0.0/24"}) }
func _() { _, _ = proxyproto.ParseTrust("10.0.0.0/24") }

// Theirs has two outcomes; in ours each range has its own, and the longest prefix wins.
func _() { _, _ = pires.PolicyFromRanges([]string{"10.0.0.0/24"}, pires.USE, pires.IGNORE) }
func _() {
	_ = proxyproto.Rules(proxyproto.Ignore, proxyproto.Rule{Prefix: netip.MustParsePrefix("10.0.0.0/24"), Action: proxyproto.Optional})
}

// The same, panicking.
func _() { _ = pires.MustPolicyFromRanges([]string{"10.0.0.0/24"}, pires.USE, pires.IGNORE) }
func _() {
	_ = proxyproto.Rules(proxyproto.Ignore, proxyproto.Rule{Prefix: netip.MustParsePrefix("10.0.0.0/24"), Action: proxyproto.Optional})
}

// Require is better than theirs, which is Optional: whoever is in the range could leave the header out.
func _() {
	_, _ = pires.LaxWhiteListPolicy([]string{"10.0.0.1"})
	_ = pires.MustLaxWhiteListPolicy([]string{"10.0.0.1"})
	_, _ = pires.ConnLaxWhiteListPolicy([]string{"10.0.0.1"})
	_ = pires.ConnMustLaxWhiteListPolicy([]string{"10.0.0.1"})
}
func _() {
	_ = proxyproto.Rules(proxyproto.Ignore, proxyproto.Rule{Prefix: netip.MustParsePrefix("10.0.0.1/32"), Action: proxyproto.Require})
}

// Theirs serves everybody who sends no header, listed or not.
func _() {
	_, _ = pires.StrictWhiteListPolicy([]string{"10.0.0.1"})
	_ = pires.MustStrictWhiteListPolicy([]string{"10.0.0.1"})
	_, _ = pires.ConnStrictWhiteListPolicy([]string{"10.0.0.1"})
	_ = pires.ConnMustStrictWhiteListPolicy([]string{"10.0.0.1"})
}
func _() { _, _ = proxyproto.ParseTrust("10.0.0.1") }

// The same.
func _(pods *net.IPNet) {
	_ = pires.SkipProxyHeaderForCIDR(pods, pires.REQUIRE)
	_ = pires.ConnSkipProxyHeaderForCIDR(pods, pires.REQUIRE)
}
func _(pods netip.Prefix) {
	_ = proxyproto.Rules(proxyproto.Require, proxyproto.Rule{Prefix: pods, Action: proxyproto.Skip})
}

// In a Policy of your own.
func _(ip net.IP)                             { _ = pires.IgnoreProxyHeaderNotOnInterface(ip) }
func _(p proxyproto.Peer, ip netip.Addr) bool { return p.Local.Addr() == ip }

// Section: Connections

// Ours has no default policy here either.
func _(inner net.Conn) {
	var _ *pires.Conn
	_ = pires.NewConn(inner, pires.WithPolicy(pires.REQUIRE), pires.SetReadHeaderTimeout(3*time.Second))
}
func _(inner net.Conn, policy proxyproto.Policy) {
	_, _ = proxyproto.NewConn(inner, &proxyproto.Config{Policy: policy, HeaderTimeout: 3 * time.Second})
}

// As with the Listener.
func _(v pires.Validator) { _ = pires.ValidateHeader(v) }
func _(v func(proxyproto.Peer, *proxyproto.Header) error) {
	_ = proxyproto.Config{Validate: v}
}

// Ours never blocks: nil until the header is there. ReadHeader waits.
func _(c *pires.Conn) { _ = c.ProxyHeader() }
func _(c *proxyproto.Conn, ctx context.Context) {
	_ = c.ReadHeader(ctx)
	_ = c.Header()
}

// Ours never block.
func _(c *pires.Conn)      { _, _ = c.RemoteAddr(), c.LocalAddr() }
func _(c *proxyproto.Conn) { _, _ = c.RemoteAddr(), c.LocalAddr() }

// Ours: an error of the caller's own deadline is no error of the header.
func _(c *pires.Conn, b []byte)      { _, _ = c.Read(b) }
func _(c *proxyproto.Conn, b []byte) { _, _ = c.Read(b) }

// Ours doesn't wait for the header.
func _(c *pires.Conn, b []byte)      { _, _ = c.Write(b) }
func _(c *proxyproto.Conn, b []byte) { _, _ = c.Write(b) }

// Ours can't move the header's time limit, nor lose the caller's deadline to it.
func _(c *pires.Conn, t time.Time) {
	_, _, _ = c.SetDeadline(t), c.SetReadDeadline(t), c.SetWriteDeadline(t)
}
func _(c *proxyproto.Conn, t time.Time) {
	_, _, _ = c.SetDeadline(t), c.SetReadDeadline(t), c.SetWriteDeadline(t)
}

// Ours keeps splice in both directions, and between two of them.
func _(c *pires.Conn, r io.Reader, w io.Writer) {
	_, _ = c.ReadFrom(r)
	_, _ = c.WriteTo(w)
}
func _(c *proxyproto.Conn, r io.Reader, w io.Writer) {
	_, _ = c.ReadFrom(r)
	_, _ = c.WriteTo(w)
}

// Theirs has no half-close.
func _(c *pires.Conn)      { _ = c.Close() }
func _(c *proxyproto.Conn) { _, _ = c.Close(), c.CloseWrite() }

// One way in, as in crypto/tls.
func _(c *pires.Conn) { _ = c.Raw() }
func _(c *proxyproto.Conn) {
	_ = c.NetConn()
}

// The same.
func _(c *pires.Conn) {
	_, _ = c.TCPConn()
	_, _ = c.UnixConn()
	_, _ = c.UDPConn()
}
func _(c *proxyproto.Conn) { _, _ = c.NetConn().(*net.TCPConn) }

// Nothing to change once the Conn is made.
func _(c *pires.Conn) { _, _ = c.ProxyHeaderPolicy, c.Validate }
func _()              {}

// HTTP/2 in the clear: net/http tells it by its first bytes.
func _(h1 *http.Server, h2 *http2.Server, ln net.Listener) {
	var _ *pireshttp2.Server
	_ = pireshttp2.NewServer(h1, h2).Serve(ln)
}
func _(srv *http.Server, ln net.Listener) {
	srv.Protocols = new(http.Protocols)
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	_ = srv.Serve(ln)
}

// Section: Reading headers

// The same: what follows the header stays in r. Ours returns io.EOF if no byte came, where theirs is "no header"; takes no header that is longer than r's buffer; and has no time limit of its own either.
func _(r *bufio.Reader) { _, _ = pires.Read(r) }
func _(r *bufio.Reader) { _, _ = proxyproto.ReadHeader(r) }

// Theirs clears the deadline, and calls a timeout "no header".
func _(c net.Conn, r *bufio.Reader) { _, _ = pires.ReadHeaderTimeout(c, r, time.Second) }
func _(c *proxyproto.Conn, ctx context.Context) {
	_ = c.ReadHeader(ctx)
}

// Theirs leaves a goroutine behind.
func _(r *bufio.Reader) { _, _ = pires.ReadTimeout(r, time.Second) }
func _(c *proxyproto.Conn, ctx context.Context) {
	_ = c.ReadHeader(ctx)
}

// There is a PacketConn, too.
func _(b []byte) { _, _, _ = pires.ParseUDPDatagram(b) }
func _(b []byte) { _, _, _ = proxyproto.Parse(b) }

// Section: The header

// Addresses are netip.AddrPort, zero where the header has none. Versions are the same numbers, commands aren't.
func _(h *pires.Header) {
	_, _, _ = h.Version, h.Command, h.TransportProtocol
	_, _ = h.SourceAddr, h.DestinationAddr
}
func _(h *proxyproto.Header) {
	_, _, _ = h.Version, h.Command, h.Protocol
	_, _ = h.Source, h.Destination
}

// As net.Addr, nil where the header has none.
func _(h *pires.Header)      { _, _ = h.SourceAddr, h.DestinationAddr }
func _(h *proxyproto.Header) { _, _ = h.SourceAddr(), h.DestinationAddr() }

// The wire's low half only. A version 1 UNKNOWN is LOCAL in theirs; ours has Proxy and Unspec.
func _() {
	var _ pires.ProtocolVersionAndCommand
	_, _ = pires.LOCAL, pires.PROXY
}
func _() {
	var _ proxyproto.Command
	_, _ = proxyproto.Local, proxyproto.Proxy
}

// To learn whether the header names a client, in either version: false for LOCAL, UNKNOWN and UNSPEC. Command alone doesn't tell, nor does Protocol, which a LOCAL header has too.
func _(c pires.ProtocolVersionAndCommand) { _, _, _ = c.IsLocal(), c.IsProxy(), c.IsUnspec() }
func _(h *proxyproto.Header)              { _ = h.HasAddrs() }

// The wire's byte in both.
func _() {
	var _ pires.AddressFamilyAndProtocol
	_, _, _ = pires.UNSPEC, pires.TCPv4, pires.UDPv4
	_, _ = pires.TCPv6, pires.UDPv6
	_, _ = pires.UnixStream, pires.UnixDatagram
}
func _() {
	var _ proxyproto.Protocol
	_, _, _ = proxyproto.Unspec, proxyproto.TCP4, proxyproto.UDP4
	_, _ = proxyproto.TCP6, proxyproto.UDP6
	_, _ = proxyproto.UnixStream, proxyproto.UnixDatagram
}

// Compare with the constants, or look at the addresses.
func _(p pires.AddressFamilyAndProtocol) {
	_, _, _ = p.IsIPv4(), p.IsIPv6(), p.IsUnix()
	_, _, _ = p.IsStream(), p.IsDatagram(), p.IsUnspec()
}
func _(h *proxyproto.Header) { _ = h.Source.Addr().Is4() }

// Ours for an inbound connection keeps its TLVs.
func _(src, dst net.Addr) { _ = pires.HeaderProxyFromAddrs(2, src, dst) }
func _(src, dst net.Addr, inbound net.Conn) {
	_ = proxyproto.NewHeader(src, dst, proxyproto.V2)
	_, _ = proxyproto.HeaderFor(inbound, proxyproto.V2)
}

// Theirs writes the names of two Unix sockets. Ours makes LOCAL (UNKNOWN in version 1) of them, for they name no client; to send the names say so.
func _(src, dst *net.UnixAddr) { _ = pires.HeaderProxyFromAddrs(2, src, dst) }
func _(src, dst *net.UnixAddr) {
	unix, _ := proxyproto.NewUnixAddrs(src.Name, dst.Name)
	_ = proxyproto.Header{Version: proxyproto.V2, Command: proxyproto.Proxy, Protocol: proxyproto.UnixStream, Unix: unix}
}

// Ours doesn't allocate for the addresses.
func _(h *pires.Header) {
	_, _, _ = h.TCPAddrs()
	_, _, _ = h.UDPAddrs()
	_, _, _ = h.IPs()
	_, _, _ = h.Ports()
}
func _(h *proxyproto.Header) { _, _ = h.Source, h.Destination }

// Names of Unix sockets, as bytes.
func _(h *pires.Header)      { _, _, _ = h.UnixAddrs() }
func _(h *proxyproto.Header) { _, _ = h.Unix.Source(), h.Unix.Destination() }

// Headers without TLVs and Unix addresses are comparable.
func _(h, other *pires.Header) { _, _ = h.EqualTo(other), h.EqualsTo(other) }
func _(h, other proxyproto.Header) {
	_ = h.Source == other.Source && h.Destination == other.Destination
}

// Ours is an error where theirs writes something else than it was asked to.
func _(h *pires.Header)                { _, _ = h.Format() }
func _(h *proxyproto.Header, b []byte) { _, _ = h.AppendTo(b) }

// The same: one Write.
func _(h *pires.Header, w io.Writer)      { _, _ = h.WriteTo(w) }
func _(h *proxyproto.Header, w io.Writer) { _, _ = h.WriteTo(w) }

// In an http.Transport's DialContext, if all of its connections have the same header: LOCAL, or one Transport for each header.
func _(ctx context.Context, dialer *net.Dialer, network, address string, h *pires.Header) {
	conn, _ := dialer.DialContext(ctx, network, address)
	_, _ = h.WriteTo(conn)
}
func _(ctx context.Context, dialer *proxyproto.Dialer, network, address string, h *proxyproto.Header) {
	_, _ = dialer.DialHeader(ctx, network, address, h)
}

// For several clients over HTTP: connections are only used again under the header that they began with, so one pool does, with keep-alives.
func _() { _ = http.Transport{DisableKeepAlives: true} }
func _(base *http.Transport, header func(*http.Request) (*proxyproto.Header, error)) {
	_, _ = proxyhttp.NewTransport(base, header)
}

// Ours knows how long a datagram may be.
func _(h *pires.Header, payload []byte) { _, _ = h.FormatUDPDatagram(payload) }
func _(h *proxyproto.Header, b, payload []byte) {
	_, _ = proxyudp.AppendPacket(b, h, payload, 0)
}

// Section: TLVs

// Checked when the header is parsed: ours can't fail here. NOOPs are there with their values.
func _(h *pires.Header)      { _, _ = h.TLVs() }
func _(h *proxyproto.Header) { _ = h.TLVs.All() }

// Encoded, in the order of the wire.
func _(h *pires.Header) {
	_ = h.SetTLVs([]pires.TLV{{Type: pires.PP2_TYPE_AUTHORITY, Value: []byte("example.com")}})
}
func _(h *proxyproto.Header) {
	h.TLVs, _ = h.TLVs.Append(proxyproto.TypeAuthority, []byte("example.com"))
}

// Ours are the bytes themselves.
func _(b []byte, tlvs []pires.TLV) {
	_, _ = pires.SplitTLVs(b)
	_, _ = pires.JoinTLVs(tlvs)
}
func _(b []byte) { _ = proxyproto.TLVs(b).All() }

// The first of a type, without an allocation.
func _(tlv pires.TLV)        { _, _ = tlv.Type, tlv.Value }
func _(h *proxyproto.Header) { _, _ = h.TLVs.Lookup(proxyproto.TypeAuthority) }

// The types.
func _() {
	var _ pires.PP2Type
	var _ pires.TLV
}
func _() { var _ proxyproto.TLVType }

// The same numbers.
func _() {
	_, _, _ = pires.PP2_TYPE_ALPN, pires.PP2_TYPE_AUTHORITY, pires.PP2_TYPE_CRC32C
	_, _, _ = pires.PP2_TYPE_NOOP, pires.PP2_TYPE_UNIQUE_ID, pires.PP2_TYPE_NETNS
	_ = pires.PP2_TYPE_SSL
}
func _() {
	_, _, _ = proxyproto.TypeALPN, proxyproto.TypeAuthority, proxyproto.TypeCRC32C
	_, _, _ = proxyproto.TypeNoop, proxyproto.TypeUniqueID, proxyproto.TypeNetNS
	_ = proxyproto.TypeSSL
}

// The same numbers.
func _() {
	_, _ = pires.PP2_SUBTYPE_SSL_VERSION, pires.PP2_SUBTYPE_SSL_CN
	_, _ = pires.PP2_SUBTYPE_SSL_CIPHER, pires.PP2_SUBTYPE_SSL_SIG_ALG
	_, _ = pires.PP2_SUBTYPE_SSL_KEY_ALG, pires.PP2_SUBTYPE_SSL_GROUP
	_, _ = pires.PP2_SUBTYPE_SSL_SIG_SCHEME, pires.PP2_SUBTYPE_SSL_CLIENT_CERT
}
func _() {
	_, _ = proxyproto.SubtypeSSLVersion, proxyproto.SubtypeSSLCN
	_, _ = proxyproto.SubtypeSSLCipher, proxyproto.SubtypeSSLSigAlg
	_, _ = proxyproto.SubtypeSSLKeyAlg, proxyproto.SubtypeSSLGroup
	_, _ = proxyproto.SubtypeSSLSigScheme, proxyproto.SubtypeSSLClientCert
}

// The same numbers.
func _() {
	_, _ = pires.PP2_TYPE_MIN_CUSTOM, pires.PP2_TYPE_MAX_CUSTOM
	_, _ = pires.PP2_TYPE_MIN_EXPERIMENT, pires.PP2_TYPE_MAX_EXPERIMENT
	_, _ = pires.PP2_TYPE_MIN_FUTURE, pires.PP2_TYPE_MAX_FUTURE
}
func _() {
	_, _ = proxyproto.TypeMinCustom, proxyproto.TypeMaxCustom
	_, _ = proxyproto.TypeMinExperiment, proxyproto.TypeMaxExperiment
	_, _ = proxyproto.TypeMinFuture, proxyproto.TypeMaxFuture
}

// Compare with the constants.
func _(t pires.PP2Type) {
	_, _, _, _, _ = t.Registered(), t.App(), t.Experiment(), t.Future(), t.Spec()
}
func _(t proxyproto.TLVType) { _ = t >= proxyproto.TypeMinCustom && t <= proxyproto.TypeMaxCustom }

// Section: TLVs of TLS and of clouds

// Zero value and false if there is none.
func _(tlvs []pires.TLV, tlv pires.TLV) {
	var _ tlvparse.PP2SSL
	_, _ = tlvparse.FindSSL(tlvs)
	_, _ = tlvparse.SSL(tlv)
	_ = tlvparse.IsSSL(tlv)
}
func _(h *proxyproto.Header) {
	var _ proxyproto.SSL
	_, _ = h.TLVs.SSL()
}

// **Not the same.** Theirs is true for clients without a certificate, as HAProxy reports them. Ours wants a certificate.
func _(s tlvparse.PP2SSL) { _ = s.Verified() }
func _(s proxyproto.SSL)  { _ = s.Verified() }

// The flags.
func _(s tlvparse.PP2SSL) {
	_, _ = s.ClientSSL(), s.ClientCertConn()
	_, _ = s.ClientCertSess(), s.Client
	_ = tlvparse.PP2_BITFIELD_CLIENT_SSL
	_ = tlvparse.PP2_BITFIELD_CLIENT_CERT_CONN
	_ = tlvparse.PP2_BITFIELD_CLIENT_CERT_SESS
}
func _(s proxyproto.SSL) {
	_ = s.TLS()
	_ = s.Client
	_ = proxyproto.ClientSSL
	_ = proxyproto.ClientCertConn
	_ = proxyproto.ClientCertSess
}

// Bytes in place of strings.
func _(s tlvparse.PP2SSL) {
	_, _ = s.SSLVersion()
	_, _ = s.SSLCipher()
	_, _ = s.SSLSigAlg()
	_, _ = s.SSLKeyAlg()
	_, _ = s.SSLGroup()
	_, _ = s.SSLSigScheme()
}
func _(s proxyproto.SSL) {
	_, _ = s.Version()
	_, _ = s.Cipher()
	_, _ = s.SigAlg()
	_, _ = s.KeyAlg()
	_, _ = s.Group()
	_, _ = s.SigScheme()
}

// Ours only if the certificate is verified.
func _(s tlvparse.PP2SSL) {
	_, _ = s.ClientCN()
	_, _ = s.ClientCert()
}
func _(s proxyproto.SSL) {
	_, _ = s.CommonName()
	_, _ = s.ClientCert()
}

// What is inside.
func _(s tlvparse.PP2SSL) { _, _ = s.Verify, s.TLV }
func _(s proxyproto.SSL)  { _, _ = s.Verify, s.TLVs }

// Ours refuses Verify 0 without a certificate.
func _(s tlvparse.PP2SSL)                   { _, _ = s.Marshal() }
func _(s proxyproto.SSL, t proxyproto.TLVs) { _, _ = s.AppendTo(t) }

// AWS: the VPC endpoint.
func _(tlvs []pires.TLV, tlv pires.TLV) {
	_ = tlvparse.FindAWSVPCEndpointID(tlvs)
	_, _ = tlvparse.AWSVPCEndpointID(tlv)
	_ = tlvparse.IsAWSVPCEndpointID(tlv)
}
func _(h *proxyproto.Header) { _, _ = cloudtlv.AWSVPCEndpointID(h.TLVs) }

// Azure: the private endpoint's link ID.
func _(tlvs []pires.TLV)     { _, _ = tlvparse.FindAzurePrivateEndpointLinkID(tlvs) }
func _(h *proxyproto.Header) { _, _ = cloudtlv.AzureLinkID(h.TLVs) }

// Google: the PSC connection ID.
func _(tlvs []pires.TLV)     { _, _ = tlvparse.ExtractPSCConnectionID(tlvs) }
func _(h *proxyproto.Header) { _, _ = cloudtlv.GooglePSCConnectionID(h.TLVs) }

// The clouds' types. Ours knows Alibaba Cloud's as well.
func _() {
	_, _, _ = tlvparse.PP2_TYPE_AWS, tlvparse.PP2_TYPE_AZURE, tlvparse.PP2_TYPE_GCP
	_ = tlvparse.PP2_SUBTYPE_AWS_VPCE_ID
	_ = tlvparse.PP2_SUBTYPE_AZURE_PRIVATEENDPOINT_LINKID
}
func _() {
	_, _, _ = cloudtlv.TypeAWS, cloudtlv.TypeAzure, cloudtlv.TypeGoogle
	_ = cloudtlv.TypeAlibaba
}

// Section: Errors

// The bytes are no header.
func _() { _ = pires.ErrNoProxyProtocol }
func _() { _ = proxyproto.ErrNoHeader }

// errors.Is matches all of them; a *FormatError has the version, the offset and the rule.
func _() {
	_, _ = pires.ErrVersion1HeaderTooLong, pires.ErrLineMustEndWithCrlf
	_, _ = pires.ErrUnknownProxyProtocolVersion, pires.ErrInvalidLength
	_ = pires.ErrUnsupportedProtocolVersionAndCommand
	_ = pires.ErrUnsupportedAddressFamilyAndProtocol
	_, _ = pires.ErrInvalidAddress, pires.ErrInvalidPortNumber
	_, _ = pires.ErrTruncatedTLV, pires.ErrMalformedTLV
	_ = pires.ErrIncompatibleTLV
	_ = pires.ErrCantResolveSourceUnixAddress
	_ = pires.ErrCantResolveDestinationUnixAddress
}
func _(e *proxyproto.FormatError) {
	_ = proxyproto.ErrMalformed
	_, _, _ = e.Version, e.Offset, e.Rule
}

// The header is cut off.
func _() {
	_ = pires.ErrCantReadVersion1Header
	_ = pires.ErrCantReadProtocolVersionAndCommand
	_ = pires.ErrCantReadAddressFamilyAndProtocol
	_ = pires.ErrCantReadLength
}
func _() { _ = proxyproto.ErrIncomplete }

// The error that Validate returns, in a *DropError.
func _()                                { _ = pires.ErrSuperfluousProxyHeader }
func _(drop *proxyproto.DropError) bool { return drop.Reason == proxyproto.ReasonInvalid }

// Not exported: nobody can overwrite them.
func _() { _, _ = pires.SIGV1, pires.SIGV2 }
func _() {}
