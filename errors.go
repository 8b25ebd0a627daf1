package proxyproto

import (
	"errors"
	"fmt"
	"strconv"
)

var (
	// ErrNoHeader reports bytes that can't be a PROXY header, however many follow.
	ErrNoHeader = errors.New("proxyproto: not a PROXY protocol header")

	// ErrIncomplete reports bytes that begin a PROXY header, which more bytes could complete.
	ErrIncomplete = errors.New("proxyproto: incomplete PROXY protocol header")

	// ErrMalformed reports bytes that begin as a PROXY header does and then break one of its
	// rules. Parse returns a [*FormatError], which says where and which one.
	ErrMalformed = errors.New("proxyproto: malformed PROXY protocol header")
)

// A FormatError says which rule a malformed header breaks, and where. It is matched by
// errors.Is(err, ErrMalformed).
type FormatError struct {
	// Version is the version of the header that broke the rule.
	Version Version

	// Offset is the index, from the header's start, of the byte that broke the rule; of the
	// first byte of the field or TLV if it takes all of that one to tell.
	Offset int

	// Rule is the rule in words, with the section of the spec that has it.
	Rule string
}

func (e *FormatError) Error() string {
	return "proxyproto: malformed " + e.Version.String() + " header at byte " +
		strconv.Itoa(e.Offset) + ": " + e.Rule
}

// Is makes e match ErrMalformed.
func (e *FormatError) Is(target error) bool { return target == ErrMalformed }

func formatError(r rule, offset int) *FormatError {
	e := &FormatError{Version: V2, Offset: offset, Rule: ruleTexts[r]}
	if r < badVersion {
		e.Version = V1
	}
	return e
}

// A rule is one that a header can break.
type rule uint8

const (
	keeps rule = iota // none is broken

	badSpace
	badProtocolName
	badUnknown
	badLineEnd
	badLineLength
	badAddr
	badUnixAddr
	badIPv4Digit
	badIPv4Range
	badIPv4Dot
	badIPv4Zero
	badIPv6Digit
	badIPv6Group
	badIPv6Count
	badIPv6Gap
	badIPv6Colon
	badIPv6Dotted
	badIPv6Length
	badPortDigit
	badPortRange
	badPortZero

	badVersion
	badCommand
	badFamily
	badTransport
	badBlockLength
	badTLVHead
	badTLVLength
	badCRC32CLength
	badCRC32CTwice
	badCRC32C
	badUniqueID
	badSSL
	badSubTLV

	rules
)

var ruleTexts = [rules]string{
	badSpace:        "expected a single space (section 2.1)",
	badProtocolName: "expected TCP4, TCP6 or UNKNOWN (section 2.1)",
	badUnknown:      "expected a space or CRLF after UNKNOWN (section 2.1)",
	badLineEnd:      "expected CRLF at the end of the line (section 2.1)",
	badLineLength:   "the line must end within 107 bytes (section 2.1)",
	badAddr:         "expected an IPv4 or IPv6 address (section 2.1)",
	badUnixAddr: "expected an IP address: nginx writes its Unix socket's name here, " +
		"let it listen on 127.0.0.1 (section 2.1)",
	badIPv4Digit: "expected a decimal number of an IPv4 address (section 2.1)",
	badIPv4Range: "a number of an IPv4 address is over 255 (section 2.1)",
	badIPv4Dot:   "expected a dot between the numbers of an IPv4 address (section 2.1)",
	badIPv4Zero:  "a number of an IPv4 address has a leading zero (section 2.1)",
	badIPv6Digit: "expected a group of hexadecimal digits of an IPv6 address (section 2.1)",
	badIPv6Group: "a group of an IPv6 address has more than four digits (section 2.1)",
	badIPv6Count: "an IPv6 address has more than 128 bits (section 2.1)",
	badIPv6Gap:   "an IPv6 address has a second double colon (section 2.1)",
	badIPv6Colon: "an IPv6 address has less than 128 bits and no double colon (section 2.1)",
	badIPv6Dotted: "an IPv4 address can only be the last 32 bits of an IPv6 address " +
		"(section 2.1)",
	badIPv6Length:   "an IPv6 address has more than 39 characters (section 2.1)",
	badPortDigit:    "expected a decimal port (section 2.1)",
	badPortRange:    "a port is over 65535 (section 2.1)",
	badPortZero:     "a port has a leading zero (section 2.1)",
	badVersion:      "the version must be 2 (section 2.2)",
	badCommand:      "the command must be LOCAL or PROXY (section 2.2)",
	badFamily:       "the address family must be UNSPEC, INET, INET6 or UNIX (section 2.2)",
	badTransport:    "the transport must be UNSPEC, STREAM or DGRAM (section 2.2)",
	badBlockLength:  "the length is too small for the addresses (section 2.2)",
	badTLVHead:      "the header ends inside a TLV's type and length (section 2.2)",
	badTLVLength:    "a TLV is longer than what is left of the header (section 2.2)",
	badCRC32CLength: "a CRC32C must have four bytes (section 2.2.3)",
	badCRC32CTwice:  "there may be only one CRC32C (section 2.2.3)",
	badCRC32C:       "the CRC32C is wrong (section 2.2.3)",
	badUniqueID:     "a unique ID has more than 128 bytes (section 2.2.5)",
	badSSL:          "an SSL TLV has less than five bytes (section 2.2.6)",
	badSubTLV:       "a TLV inside the SSL TLV overruns it (section 2.2.6)",
}

// An encodeError is what AppendTo returns. It matches no sentinel: it is the caller's fault.
type encodeError string

func unencodable(why string) error { return encodeError(why) }

func (e encodeError) Error() string { return "proxyproto: can't write header: " + string(e) }

// Reason is why a connection was dropped.
type Reason uint8

const (
	ReasonRejected   Reason = 1 + iota // by the Policy, before a byte was read
	ReasonNoHeader                     // the first bytes are no header
	ReasonMalformed                    // the header breaks a rule of the spec
	ReasonIncomplete                   // the peer ended the connection inside the header
	ReasonVersion                      // the header's version isn't in Config.Versions
	ReasonTooLarge                     // the header is longer than Config.MaxHeaderSize
	ReasonTimeout                      // the header wasn't there within Config.HeaderTimeout
	ReasonEvicted                      // it had waited longest when Config.MaxPending was reached
	ReasonInvalid                      // Config.Validate refused the header
	ReasonBroken                       // reading failed inside the header, by a reset for example
	ReasonClosed                       // we closed it, or the Listener, before the header was there
	ReasonLate                         // the header came after the connection was served without
	reasons
)

var reasonNames = [reasons]string{
	ReasonRejected: "rejected", ReasonNoHeader: "no header", ReasonMalformed: "malformed",
	ReasonIncomplete: "incomplete", ReasonVersion: "version", ReasonTooLarge: "too large",
	ReasonTimeout: "timeout", ReasonEvicted: "evicted", ReasonInvalid: "invalid",
	ReasonBroken: "broken", ReasonClosed: "closed", ReasonLate: "late",
}

// String returns a short lower-case name that stays the same, fit for a metric's label.
func (r Reason) String() string {
	if r > 0 && r < reasons {
		return reasonNames[r]
	}
	return "Reason(" + strconv.Itoa(int(r)) + ")"
}

// MarshalText returns what String does. It is an error if r isn't one of the constants.
func (r Reason) MarshalText() ([]byte, error) {
	if r == 0 || r >= reasons {
		return nil, fmt.Errorf("proxyproto: there is no %v", r)
	}
	return []byte(reasonNames[r]), nil
}

// UnmarshalText reads what MarshalText returns.
func (r *Reason) UnmarshalText(text []byte) error {
	for i := Reason(1); i < reasons; i++ {
		if reasonNames[i] == string(text) {
			*r = i
			return nil
		}
	}
	return fmt.Errorf("proxyproto: there is no reason %q", text)
}

// DropError says why a connection was dropped. Config.OnDrop gets it, and the reader of a lazy
// connection gets it inside a *net.OpError.
type DropError struct {
	Reason Reason

	// Err is the cause: a [*FormatError], an error that matches ErrNoHeader, ErrIncomplete,
	// os.ErrDeadlineExceeded or net.ErrClosed, the error of Config.Validate, a read error, or
	// what Reason says in words.
	Err error

	// Bytes are up to 16 of those that the peer sent: the ones that led to the fault if it
	// is in the header's form, and otherwise the first. It is the receiver's own.
	Bytes []byte
}

func (e *DropError) Error() string {
	s := e.Err.Error()
	if len(e.Bytes) > 0 {
		s += " (sent " + strconv.QuoteToASCII(string(e.Bytes)) + ")"
	}
	return s
}

// Unwrap returns e.Err.
func (e *DropError) Unwrap() error { return e.Err }

// Timeout reports whether the header came too late. It makes a *net.OpError around e a timeout.
func (e *DropError) Timeout() bool { return e.Reason == ReasonTimeout }

// A dropReason is the Err of a DropError whose Reason says all.
type dropReason string

func (e dropReason) Error() string { return "proxyproto: " + string(e) }
