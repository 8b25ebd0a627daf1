package proxyproto

import (
	"strconv"
	"unsafe"
)

// A rule is one that a header can break.
type rule uint8

const (
	keeps rule = iota // none is broken

	badSpace
	badProtocolName
	badUnknown
	badLineEnd
	badLineLength
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
	badSpace:        "a single space must follow (section 2.1)",
	badProtocolName: "the protocol must be TCP4, TCP6 or UNKNOWN (section 2.1)",
	badUnknown:      "a space or CRLF must follow UNKNOWN (section 2.1)",
	badLineEnd:      "the line must end in CRLF (section 2.1)",
	badLineLength:   "the line must end within 107 bytes (section 2.1)",
	badIPv4Digit:    "a decimal number of an IPv4 address must stand here (section 2.1)",
	badIPv4Range:    "a number of an IPv4 address is over 255 (section 2.1)",
	badIPv4Dot:      "a dot must separate the numbers of an IPv4 address (section 2.1)",
	badIPv4Zero:     "a number of an IPv4 address has a heading zero (section 2.1)",
	badIPv6Digit:    "a group of hexadecimal digits of an IPv6 address must stand here (section 2.1)",
	badIPv6Group:    "a group of an IPv6 address has more than four digits (section 2.1)",
	badIPv6Count:    "an IPv6 address has more than 128 bits (section 2.1)",
	badIPv6Gap:      "an IPv6 address has a second double colon (section 2.1)",
	badIPv6Colon:    "an IPv6 address has less than 128 bits and no double colon (section 2.1)",
	badIPv6Dotted:   "a dotted number can only end an IPv6 address, as its last 32 bits (section 2.1)",
	badIPv6Length:   "an IPv6 address has more than 39 characters (section 2.1)",
	badPortDigit:    "a decimal port must stand here (section 2.1)",
	badPortRange:    "a port is over 65535 (section 2.1)",
	badPortZero:     "a port has a heading zero (section 2.1)",
	badVersion:      "the version must be 2 (section 2.2)",
	badCommand:      "the command must be LOCAL or PROXY (section 2.2)",
	badFamily:       "the address family must be UNSPEC, INET, INET6 or UNIX (section 2.2)",
	badTransport:    "the transport must be UNSPEC, STREAM or DGRAM (section 2.2)",
	badBlockLength:  "the length is too small for the addresses (section 2.2)",
	badTLVHead:      "the header ends inside the three bytes before a TLV's value (section 2.2)",
	badTLVLength:    "a TLV is longer than what is left of the header (section 2.2)",
	badCRC32CLength: "a CRC32C must have four bytes (section 2.2.3)",
	badCRC32CTwice:  "there may be only one CRC32C (section 2.2.3)",
	badCRC32C:       "the CRC32C is wrong (section 2.2.3)",
	badUniqueID:     "a unique ID has more than 128 bytes (section 2.2.5)",
	badSSL:          "an SSL TLV has less than five bytes (section 2.2.6)",
	badSubTLV:       "a TLV inside the SSL TLV overruns it (section 2.2.6)",
}

// A FormatError says which rule a malformed header breaks, and where. It is matched by
// errors.Is(err, ErrMalformed). Only Parse makes them: use the pointer, its address says it all.
type FormatError struct{ _ byte }

// formatErrors has a FormatError for each rule at each offset, so that refusing a header
// allocates nothing. It takes address space but no memory: none of it is ever read or written.
var formatErrors [(maxHeader + 1) * int(rules)]FormatError

func formatError(r rule, offset int) *FormatError {
	return &formatErrors[offset*int(rules)+int(r)]
}

// place is e's index in formatErrors, or 0 if it isn't there.
func (e *FormatError) place() int {
	i := uintptr(unsafe.Pointer(e)) - uintptr(unsafe.Pointer(&formatErrors))
	if i >= uintptr(len(formatErrors)) {
		return 0
	}
	return int(i)
}

func (e *FormatError) rule() rule { return rule(e.place() % int(rules)) }

// Version is the version of the header that broke the rule.
func (e *FormatError) Version() Version {
	if e.rule() < badVersion {
		return V1
	}
	return V2
}

// Offset is the index, from the header's start, of the byte that broke the rule; of the
// first byte of the field or TLV if it takes all of that one to tell.
func (e *FormatError) Offset() int { return e.place() / int(rules) }

// Rule is the rule in words, with the section of the spec that has it.
func (e *FormatError) Rule() string { return ruleTexts[e.rule()] }

func (e *FormatError) Error() string {
	return "proxyproto: malformed " + e.Version().String() + " header at byte " + strconv.Itoa(e.Offset()) + ": " + e.Rule()
}

// Is makes e match ErrMalformed.
func (e *FormatError) Is(target error) bool { return target == ErrMalformed }

// An encodeError is what AppendTo returns.
type encodeError string

func unencodable(why string) error { return encodeError(why) }

func (e encodeError) Error() string { return "proxyproto: can't write header: " + string(e) }

func (e encodeError) Is(target error) bool { return target == ErrMalformed }
