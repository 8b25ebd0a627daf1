package proxyudp

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

const (
	defaultMaxHeaderSize  = 4 << 10
	defaultSessionTimeout = 30 * time.Second
)

// Config says whose headers are believed, and how far. Only Policy is required. It must not be
// modified once it has been passed to a function of this package; it may be passed to several.
//
// Its functions are called by ReadFrom, in the goroutine that called it and so by several at once:
// they must not block, since the next datagram waits for them. WriteTo asks the Policy too, about an
// address without a route.
type Config struct {
	// Policy chooses what to do with each datagram, by its sender:
	//
	//   - Reject drops it; Require wants a valid header at its front; Skip returns it as it is.
	//   - Optional takes the header if there is one and returns the datagram as it is if it
	//     doesn't begin as a header does; Ignore takes a header off and doesn't believe it. What
	//     begins as a header and isn't valid, or is cut off by the datagram's end, is dropped.
	//
	// UDP proves nobody's address. A Policy that trusts an address trusts everyone whose datagrams
	// get here with that source: the network in front has to drop those that don't come from the
	// proxy.
	Policy proxyproto.Policy

	// Versions are those that are accepted; both if it is empty.
	Versions []proxyproto.Version

	// MaxHeaderSize is the longest header that is accepted, in bytes, with its TLVs. Zero is
	// 4,096; a version 2 header may have 65,551.
	MaxHeaderSize int

	// Sessions is for proxies that send the header in a client's first datagram only: the address
	// and port that sent a header then speak for that client, in datagrams without one too, until
	// SessionTimeout passes without a datagram from there. Another header replaces the client. It is
	// how many are kept at once; the one that has been silent longest gives way. Zero, the
	// default, is none: each datagram has its own header, as section 2 of the spec asks.
	//
	// It weakens what a header proves. Whoever can send from the proxy's address and port is that
	// client; a client whose first datagram is lost, or that gives way, is dropped under Require
	// until the proxy sends a header again; and since such a proxy passes later datagrams on as they
	// are, a client can put a header of its own into one, and be whom it likes.
	Sessions int

	// SessionTimeout is how long a session lasts without a datagram. Zero is 30 seconds. Make it
	// shorter than the time for which the proxy keeps a client's socket, or the next client that
	// gets this port may be taken for the last one.
	SessionTimeout time.Duration

	// Validate, if set, is asked about every header that is to be believed, LOCAL ones too. An
	// error drops the datagram. h is a copy: keep it if you like.
	Validate func(p proxyproto.Peer, h *proxyproto.Header) error

	// OnDrop, if set, is called with every datagram that is dropped, as often as strangers send
	// some: it should count or sample, as proxyproto.LogDrops does, and not log each. An empty
	// datagram under Require is a probe, which is only counted.
	OnDrop func(p proxyproto.Peer, drop *proxyproto.DropError)
}

// check reports what is wrong with a Config before anything is served with it.
func (cfg *Config) check() error {
	switch {
	case cfg == nil || cfg.Policy == nil:
		return errors.New("proxyudp: Config has no Policy: say whose headers to trust, " +
			"with proxyproto.Trust for example")
	case cfg.MaxHeaderSize < 0:
		return fmt.Errorf("proxyudp: Config.MaxHeaderSize is negative: %d", cfg.MaxHeaderSize)
	case cfg.Sessions < 0:
		return fmt.Errorf("proxyudp: Config.Sessions is negative: %d", cfg.Sessions)
	case cfg.SessionTimeout < 0:
		return fmt.Errorf("proxyudp: Config.SessionTimeout is negative: %v", cfg.SessionTimeout)
	case cfg.SessionTimeout > 0 && cfg.SessionTimeout < time.Millisecond:
		return fmt.Errorf("proxyudp: Config.SessionTimeout is %d nanoseconds: "+
			"multiply by time.Second", cfg.SessionTimeout.Nanoseconds())
	case cfg.SessionTimeout > 0 && cfg.Sessions == 0:
		return errors.New("proxyudp: Config.SessionTimeout is set and Sessions is zero: " +
			"say how many sessions to keep")
	}
	for _, v := range cfg.Versions {
		if v != proxyproto.V1 && v != proxyproto.V2 {
			return fmt.Errorf("proxyudp: Config.Versions has %v: there are V1 and V2", v)
		}
	}
	return nil
}

// own returns a copy with the defaults filled in, which shares nothing with cfg.
func (cfg *Config) own() Config {
	own := *cfg
	own.Versions = slices.Clone(cfg.Versions)
	if own.MaxHeaderSize == 0 {
		own.MaxHeaderSize = defaultMaxHeaderSize
	}
	if own.SessionTimeout == 0 {
		own.SessionTimeout = defaultSessionTimeout
	}
	return own
}
