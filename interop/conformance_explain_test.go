package interop

import (
	"errors"
	"strings"

	"github.com/seed2e8fe8ee/proxyproto"
)

// readLong is the reading of valid headers over the limits that others have.
const readLong = "longer than 1,024 bytes"

// readMixed is the reading of lines that nginx writes when it has replaced the client's address.
const readMixed = "TCP, an address isn't of the keyword's family"

// mixed tells whether a good line is one of those.
func mixed(line string) bool {
	fields := strings.Fields(line)
	for _, address := range fields[2:4] {
		if strings.Contains(address, ":") != (fields[1] == "TCP6") {
			return true
		}
	}
	return false
}

// reading says what the specimen is by this library's reading of the spec: which rule it breaks, or
// which kind of header it is.
func reading(sent []byte) string {
	h, n, err := proxyproto.Parse(sent)
	var broken *proxyproto.FormatError
	switch {
	case errors.As(err, &broken):
		rule, _, _ := strings.Cut(broken.Rule, " (section")
		return rule
	case errors.Is(err, proxyproto.ErrNoHeader):
		return "no header"
	case errors.Is(err, proxyproto.ErrIncomplete):
		return "cut off"
	case n > 1024:
		return readLong
	case h.Command == proxyproto.Local:
		return "LOCAL"
	case h.Version == proxyproto.V1 && h.Protocol == proxyproto.Unspec:
		return "UNKNOWN"
	case h.Version == proxyproto.V1 && mixed(string(sent[:n])):
		return readMixed
	}
	switch h.Protocol {
	case proxyproto.TCP4, proxyproto.TCP6:
		source := h.Source.Addr()
		switch {
		case source.String() == "255.255.255.255" || h.Destination.Addr().String() == "255.255.255.255":
			return "TCP, an address is 255.255.255.255"
		}
		return "TCP"
	case proxyproto.UDP4, proxyproto.UDP6:
		return "UDP"
	case proxyproto.UnixStream, proxyproto.UnixDatagram:
		return "AF_UNIX"
	}
	return "UNSPEC"
}

// An explanation says by which sentence of the spec a header of a reading is judged.
type explanation struct {
	section, sentence string
	note              string // what the sentence doesn't say by itself
}

const (
	sentenceIPv4 = "IPv4 addresses must be indicated as a series of exactly 4 integers in the range [0..255] inclusive " +
		"written in decimal representation separated by exactly one dot between each other."
	sentenceZero = "Heading zeroes are not permitted in front of numbers in order to avoid any possible confusion with octal numbers."
	sentenceIPv6 = "IPv6 addresses must be indicated as series of sets of 4 hexadecimal digits (upper or lower case) delimited by colons " +
		"between each other, with the acceptance of one double colon sequence to replace the largest acceptable range of consecutive zeroes."
	sentenceBits   = "The total number of decoded bits must exactly be 128."
	sentencePort   = "the TCP source port represented as a decimal integer in the range [0..65535] inclusive."
	sentenceExact  = "Any sequence which does not exactly match the protocol must be discarded and cause the receiver to abort the connection."
	sentenceFamily = "The advertised protocol family dictates what format to use."
	sentenceCRLF   = "The receiver must not tolerate a single CR or LF character to end the line when a complete CRLF sequence is expected."
	sentenceTLV    = "The second two bytes represent the length in bytes of the value (not included the Type and Length bytes), and " +
		"following the length field is the number of bytes specified by the length."
	sentenceCRC = "If it is not, the receiver MUST treat the TCP connection providing the header as invalid."
	noteTLV     = "Receivers that read no TLVs skip them, which section 2.2 allows; who reads them has to know where they end."
)

// explanations has one for each reading on which another receiver may differ from us.
var explanations = map[string]explanation{
	"no header": {"2.2", "otherwise the protocol is not covered by this specification and the connection must be dropped.", ""},
	"cut off": {"2.2", "The receiver must also reject incoming connections containing partial protocol headers.",
		"Here the sender ends the connection inside the header."},

	readMixed: {"2.1", sentenceFamily, "nginx writes and reads such lines: see [the issue]" +
		"(https://trac.nginx.org/nginx/ticket/1609). It is the one place where we take what the grammar doesn't have: " +
		"the addresses are good, and each of them says its family itself."},
	"expected an IPv4 or IPv6 address": {"2.1", sentenceFamily, "What is there begins no address of either family."},
	"expected an IP address: nginx writes its Unix socket's name here, let it listen on 127.0.0.1": {"2.1",
		sentenceFamily, "nginx writes it, and doesn't read it."},
	"expected a single space": {"2.1", sentenceExact, "Every separator is exactly one space."},
	"expected TCP4, TCP6 or UNKNOWN": {"2.1", sentenceExact,
		`Only "TCP4" and "TCP6" are allowed, and others must be reported as "UNKNOWN".`},
	"expected a space or CRLF after UNKNOWN":                          {"2.1", sentenceExact, ""},
	"expected CRLF at the end of the line":                            {"2.1", sentenceCRLF, ""},
	"the line must end within 107 bytes":                              {"2.1", "If the CRLF sequence is not found in the first 107 characters, the receiver should declare the line invalid.", ""},
	"expected a decimal number of an IPv4 address":                    {"2.1", sentenceIPv4, ""},
	"a number of an IPv4 address is over 255":                         {"2.1", sentenceIPv4, ""},
	"expected a dot between the numbers of an IPv4 address":           {"2.1", sentenceIPv4, ""},
	"a number of an IPv4 address has a leading zero":                  {"2.1", sentenceZero, ""},
	"expected a group of hexadecimal digits of an IPv6 address":       {"2.1", sentenceIPv6, ""},
	"a group of an IPv6 address has more than four digits":            {"2.1", sentenceIPv6, ""},
	"an IPv6 address has more than 128 bits":                          {"2.1", sentenceBits, ""},
	"an IPv6 address has a second double colon":                       {"2.1", sentenceIPv6, ""},
	"an IPv6 address has less than 128 bits and no double colon":      {"2.1", sentenceBits, ""},
	"an IPv4 address can only be the last 32 bits of an IPv6 address": {"2.1", sentenceFamily, "A plain IPv4 address on a TCP6 line isn't an IPv6 address."},
	"an IPv6 address has more than 39 characters": {"2.1", "5 + 1 + 4 + 1 + 39 + 1 + 39 + 1 + 5 + 1 + 5 + 2 = 104 chars",
		"The dotted form isn't in the spec; what inet_ntop writes for IPv4-mapped addresses fits."},
	"expected a decimal port":   {"2.1", sentencePort, ""},
	"a port is over 65535":      {"2.1", sentencePort, "They keep its lowest 16 bits."},
	"a port has a leading zero": {"2.1", sentenceZero, ""},

	"the version must be 2":              {"2.2", "As of this specification, it must always be sent as \\x2 and the receiver must only accept this value.", ""},
	"the command must be LOCAL or PROXY": {"2.2", "Receivers must drop connections presenting unexpected values here.", ""},
	"the address family must be UNSPEC, INET, INET6 or UNIX": {"2.2",
		"other values are unspecified and must not be emitted in version 2 of this protocol and must be rejected as invalid by receivers.", ""},
	"the transport must be UNSPEC, STREAM or DGRAM": {"2.2",
		"other values are unspecified and must not be emitted in version 2 of this protocol and must be rejected as invalid by receivers.", ""},
	"the length is too small for the addresses": {"2.2", "Address length is 2*4 + 2*2 = 12 bytes.",
		"The receiver must not start to parse an address before the whole address block is received; here it ends too early."},
	"the header ends inside a TLV's type and length":  {"2.2", sentenceTLV, noteTLV},
	"a TLV is longer than what is left of the header": {"2.2", sentenceTLV, noteTLV},
	"a CRC32C must have four bytes":                   {"2.2.3", "The value of the type PP2_TYPE_CRC32C is a 32-bit number storing the CRC32c checksum of the PROXY protocol header.", "Receivers without support for the checksum needn't look."},
	"there may be only one CRC32C":                    {"2.2.3", sentenceCRC, "With two of them neither can be right: each is to be computed with itself as zero. Receivers without support for the checksum needn't look."},
	"the CRC32C is wrong":                             {"2.2.3", sentenceCRC, "Receivers without support for the checksum needn't look."},
	"a unique ID has more than 128 bytes":             {"2.2.5", "The value of the type PP2_TYPE_UNIQUE_ID is an opaque byte sequence of up to 128 bytes generated by the upstream proxy that uniquely identifies the connection.", noteTLV},
	"an SSL TLV has less than five bytes":             {"2.2.6", "For the type PP2_TYPE_SSL, the value is itself a defined like this :", "That is one byte and four, then TLVs. " + noteTLV},
	"a TLV inside the SSL TLV overruns it":            {"2.2.6", "The total length of the pp2_tlv_ssl TLV will reflect this.", noteTLV},

	"UNKNOWN": {"2.1", "SHOULD accept the connection and use the real connection's parameters as if there were no PROXY protocol header on the wire.",
		`Also: "the receiver must ignore anything presented before the CRLF is found".`},
	"UNSPEC": {"2.2", "The receiver is free to accept the connection anyway and use the real endpoint addresses or to reject it.", ""},
	"LOCAL":  {"2.2", "The receiver must accept this connection as valid and must use the real connection endpoints and discard the protocol block including the family which is ignored.", ""},
	"UDP": {"2.2", "A receiver is not required to implement other ones, provided that it automatically falls back to the UNSPEC mode for the valid combinations above that it does not support.",
		"We report the addresses that it brings."},
	"AF_UNIX": {"2.2", "A receiver is not required to implement other ones, provided that it automatically falls back to the UNSPEC mode for the valid combinations above that it does not support.",
		"We report the addresses that it brings."},
	"TCP, an address is 255.255.255.255": {"2.1", sentenceIPv4, "inet_addr returns the same for this address as for an error."},
	readLong: {"2.2", "Thus the length of the protocol header in bytes is always exactly 16 + this value.",
		"The spec sets no limit below 65,551 bytes. Ours is Config.MaxHeaderSize, here as high as it goes."},
}
