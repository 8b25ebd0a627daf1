package proxyproto

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	defaultHeaderTimeout = 5 * time.Second
	defaultMaxHeaderSize = 4 << 10
	defaultMaxPending    = 1024
)

// Config says whom a server trusts and how far. Only Policy is required. As a tls.Config it must
// not be modified once it has been passed to a function of this package; it may be passed to
// several.
//
// Its functions may be called by several goroutines at once, and must not block: the next
// connection waits for them. They may call every method of the Listener but Accept.
type Config struct {
	// Policy chooses what to do with each peer's connection.
	Policy Policy

	// Versions are those that are accepted; both if it is empty.
	Versions []Version

	// HeaderTimeout is how long a peer may take to send its header, from the moment the
	// connection is accepted; for a lazy one, and for one that may do without a header, from its
	// first byte on, and for Conn.ReadHeader from its call. Zero is 5 seconds: the spec (section 2)
	// asks for 3 at least, so that a lost segment can be sent again. -1 is no limit: then only
	// MaxPending ends the wait. Other negative values, and positive ones under a millisecond, are
	// an error.
	HeaderTimeout time.Duration

	// MaxHeaderSize is the longest header that is accepted, in bytes, with its TLVs. Zero is
	// 4,096, enough for a client certificate; a version 2 header may have 65,551.
	MaxHeaderSize int

	// MaxPending is how many accepted connections may wait for their headers at once, in the
	// Listener's hands. When it is reached the one that has waited longest gives way: under
	// Require it is dropped. Zero is 1,024: more than any proxy has between its connect and its
	// first segment, and at most some 12 MB of memory and a thousand descriptors for peers that
	// send nothing (ten times the memory with TLS inside, whose handshakes wait too). Lazy
	// connections, and those that Ignore serves, don't wait there.
	MaxPending int

	// Lazy makes Accept return at once and leaves reading the header to the first Read, for
	// servers that speak first behind a load balancer which sends the header only with the
	// client's first bytes. It concerns Require and Optional. Not for net/http, which asks for
	// RemoteAddr before it reads: r.RemoteAddr would be the proxy's. See [Conn].
	Lazy bool

	// Validate, if set, is asked about every header that is to be believed, LOCAL ones too. An
	// error drops the connection. Use it for what the Policy can't know: to refuse a source in
	// 127.0.0.0/8, say, if local clients have privileges. h is yours to keep, but shares its TLVs
	// with the connection: don't change those.
	Validate func(p Peer, h *Header) error

	// OnDrop, if set, is called with every connection that is dropped for what the peer is or
	// did. Probes and connections that you close yourself are only counted. [LogDrops] makes
	// one that logs.
	OnDrop func(p Peer, drop *DropError)
}

// check reports what is wrong with a Config before anything is served with it.
func (cfg *Config) check() error {
	switch {
	case cfg == nil || cfg.Policy == nil:
		return errors.New("proxyproto: Config has no Policy: say whose headers to trust, " +
			"with Trust for example")
	case cfg.HeaderTimeout < -1:
		return fmt.Errorf("proxyproto: Config.HeaderTimeout is negative: %v (-1 is no limit)",
			cfg.HeaderTimeout)
	case cfg.HeaderTimeout > 0 && cfg.HeaderTimeout < time.Millisecond:
		return fmt.Errorf("proxyproto: Config.HeaderTimeout is %d nanoseconds: "+
			"multiply by time.Second", cfg.HeaderTimeout.Nanoseconds())
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

func (cfg *Config) accepts(v Version) bool {
	return len(cfg.Versions) == 0 || slices.Contains(cfg.Versions, v)
}

// headerTimeout returns 0 if there is no limit.
func (cfg *Config) headerTimeout() time.Duration {
	switch cfg.HeaderTimeout {
	case 0:
		return defaultHeaderTimeout
	case -1:
		return 0
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
