package proxyproto

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

const (
	defaultHeaderTimeout = 5 * time.Second
	defaultMaxHeaderSize = 4 << 10
	defaultMaxPending    = 1024
)

// Config says whom a server trusts and how far. Only Policy is required.
//
// NewListener and NewPacketConn copy it. Its functions may be called by several goroutines at
// once, and must not block: the next connection waits for them. For a PacketConn read datagram
// where a field says connection.
type Config struct {
	// Policy chooses what to do with each peer's connection.
	Policy Policy

	// Versions are those that are accepted; both if it is empty.
	Versions []Version

	// HeaderTimeout is how long a peer may take to send its header, from the moment the
	// connection is accepted, or for a lazy one from the first Read or ReadHeader. Zero is 5
	// seconds. The spec (section 2) asks for 3 at least, so that a lost segment can be sent again.
	HeaderTimeout time.Duration

	// MaxHeaderSize is the longest header that is accepted, in bytes, with its TLVs. Zero is
	// 4,096, enough for a client certificate; a version 2 header may have 65,551.
	MaxHeaderSize int

	// MaxPending is how many accepted connections may wait for their headers at once. When it
	// is reached the one that has waited longest is dropped. Zero is 1,024: more than any proxy has
	// between its connect and its first segment, and at most some 12 MB of memory and a thousand
	// descriptors for peers that send nothing. It doesn't concern lazy connections.
	MaxPending int

	// Lazy makes Accept return at once and leaves reading the header to the first Read, for
	// servers that speak first behind a load balancer which sends the header only with the
	// client's first bytes. Not for net/http, which asks for RemoteAddr before it reads: r.RemoteAddr
	// would be the proxy's. See [Conn].
	Lazy bool

	// Validate, if set, is asked about every header that is to be believed, LOCAL ones too. An
	// error drops the connection. Use it for what the Policy can't know: to refuse a source in
	// 127.0.0.0/8, say, if local clients have privileges. h is valid during the call.
	Validate func(peer netip.AddrPort, h *Header) error

	// OnDrop, if set, is told of every connection that is dropped for what the peer is or
	// did, with a [*DropError]. Probes and connections that you close yourself are only counted.
	OnDrop func(peer netip.AddrPort, err error)
}

// check reports what is wrong with a Config before anything is served with it.
func (cfg *Config) check() error {
	switch {
	case cfg == nil || cfg.Policy == nil:
		return errors.New("proxyproto: Config has no Policy: say whose headers to trust, with Trust for example")
	case cfg.HeaderTimeout < 0:
		return fmt.Errorf("proxyproto: Config.HeaderTimeout is negative: %v", cfg.HeaderTimeout)
	case cfg.MaxHeaderSize < 0:
		return fmt.Errorf("proxyproto: Config.MaxHeaderSize is negative: %d", cfg.MaxHeaderSize)
	case cfg.MaxPending < 0:
		return fmt.Errorf("proxyproto: Config.MaxPending is negative: %d", cfg.MaxPending)
	}
	for _, v := range cfg.Versions {
		if v != V1 && v != V2 {
			return fmt.Errorf("proxyproto: Config.Versions has %v: there are V1 and V2", v)
		}
	}
	return nil
}

// own returns a copy that shares nothing with cfg.
func (cfg *Config) own() Config {
	own := *cfg
	own.Versions = slices.Clone(cfg.Versions)
	return own
}

func (cfg *Config) headerTimeout() time.Duration {
	if cfg.HeaderTimeout == 0 {
		return defaultHeaderTimeout
	}
	return cfg.HeaderTimeout
}

func (cfg *Config) maxHeaderSize() int {
	if cfg.MaxHeaderSize == 0 {
		return defaultMaxHeaderSize
	}
	return cfg.MaxHeaderSize
}

func (cfg *Config) maxPending() int {
	if cfg.MaxPending == 0 {
		return defaultMaxPending
	}
	return cfg.MaxPending
}

// judge decides over b, the first bytes of a connection; ended says that no more will come.
// With neither a reason to drop it nor an error, h becomes the header, n bytes long, or stays
// zero if there is none and the action does without. The error ErrIncomplete alone says: read on.
func (cfg *Config) judge(h *Header, action Action, b []byte, ended bool) (n int, reason Reason, err error) {
	n, err = parse(h, b)
	if err == nil {
		switch {
		case len(cfg.Versions) > 0 && !slices.Contains(cfg.Versions, h.Version):
			reason, err = ReasonVersion, dropReason("a "+h.Version.String()+" header isn't accepted here")
		case n > cfg.maxHeaderSize():
			reason, err = cfg.tooLarge(n)
		default:
			return n, 0, nil
		}
		*h = Header{}
		return 0, reason, err
	}
	size, _ := declaredSize(b)
	size = max(size, len(b))
	switch {
	case err == ErrIncomplete && size > cfg.maxHeaderSize():
		reason, err = cfg.tooLarge(size)
	case err == ErrIncomplete && !ended:
	case (action == Optional || action == Ignore) && (err == ErrNoHeader || err == ErrIncomplete && !begun(b)):
		err = nil
	case err == ErrNoHeader:
		reason = ReasonNoHeader
	case err == ErrIncomplete:
		reason = ReasonIncomplete
	default:
		reason = ReasonMalformed
	}
	return 0, reason, err
}

func (cfg *Config) tooLarge(size int) (Reason, error) {
	return ReasonTooLarge, dropReason(fmt.Sprintf("a header of %d bytes or more is over the limit of %d", size, cfg.maxHeaderSize()))
}

// drop counts a dropped connection, tells OnDrop of it, and returns the error that it told. b is what the
// peer sent.
func (cfg *Config) drop(stats *counters, peer netip.AddrPort, reason Reason, err error, b []byte) *DropError {
	stats.drop(reason)
	e := &DropError{Reason: reason, Err: err}
	const most = 16
	if fault, ok := err.(*FormatError); ok {
		end := min(len(b), max(fault.Offset()+1, most))
		b = b[max(0, end-most):end]
	}
	e.Bytes = append(e.Bytes, b[:min(len(b), most)]...)
	if cfg.OnDrop != nil && reason != ReasonClosed {
		cfg.OnDrop(peer, e)
	}
	return e
}
