package proxyproto

import (
	"encoding/binary"
	"hash/crc32"
	"iter"
	"slices"
	"strconv"
)

// TLVType is the type of a TLV (section 2.2), or of one inside the SSL TLV (section 2.2.6).
type TLVType uint8

const (
	TypeALPN      TLVType = 0x01 // section 2.2.1
	TypeAuthority TLVType = 0x02 // section 2.2.2
	TypeCRC32C    TLVType = 0x03 // section 2.2.3
	TypeNoop      TLVType = 0x04 // section 2.2.4
	TypeUniqueID  TLVType = 0x05 // section 2.2.5
	TypeSSL       TLVType = 0x20 // section 2.2.6
	TypeNetNS     TLVType = 0x30 // section 2.2.7

	SubtypeSSLVersion    TLVType = 0x21
	SubtypeSSLCN         TLVType = 0x22
	SubtypeSSLCipher     TLVType = 0x23
	SubtypeSSLSigAlg     TLVType = 0x24
	SubtypeSSLKeyAlg     TLVType = 0x25
	SubtypeSSLGroup      TLVType = 0x26
	SubtypeSSLSigScheme  TLVType = 0x27
	SubtypeSSLClientCert TLVType = 0x28

	// Ranges of section 2.2.8: for applications, for experiments, and reserved.
	TypeMinCustom     TLVType = 0xE0
	TypeMaxCustom     TLVType = 0xEF
	TypeMinExperiment TLVType = 0xF0
	TypeMaxExperiment TLVType = 0xF7
	TypeMinFuture     TLVType = 0xF8
	TypeMaxFuture     TLVType = 0xFF
)

var typeNames = [...]string{
	TypeALPN: "ALPN", TypeAuthority: "AUTHORITY", TypeCRC32C: "CRC32C", TypeNoop: "NOOP",
	TypeUniqueID: "UNIQUE_ID", TypeSSL: "SSL", TypeNetNS: "NETNS",
	SubtypeSSLVersion: "SSL_VERSION", SubtypeSSLCN: "SSL_CN", SubtypeSSLCipher: "SSL_CIPHER",
	SubtypeSSLSigAlg: "SSL_SIG_ALG", SubtypeSSLKeyAlg: "SSL_KEY_ALG",
	SubtypeSSLGroup: "SSL_GROUP", SubtypeSSLSigScheme: "SSL_SIG_SCHEME",
	SubtypeSSLClientCert: "SSL_CLIENT_CERT",
}

// String returns the spec's name without its prefix, or the number.
func (t TLVType) String() string {
	if int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return "0x" + strconv.FormatUint(uint64(t), 16)
}

// A TLV on the wire is its type in one byte, the length of its value in two, and the value.
const (
	lenTLV      = 3
	lenCRC32C   = 4
	maxUniqueID = 128
	lenSSL      = 5 // client and verify, before the TLVs inside
)

// TLVs are encoded type-length-value vectors, in the order in which they were sent. Those of
// a parsed header are well-formed and alias the bytes it was parsed from.
type TLVs []byte

// All iterates over the types and values. The values alias t. On bytes that Parse hasn't
// seen it ends where they stop being well-formed.
func (t TLVs) All() iter.Seq2[TLVType, []byte] {
	return func(yield func(TLVType, []byte) bool) {
		for at := uint(0); at+2 < uint(len(t)); {
			end := at + lenTLV + (uint(t[at+1])<<8 | uint(t[at+2]))
			if end > uint(len(t)) || !yield(TLVType(t[at]), t[at+lenTLV:end:end]) {
				return
			}
			at = end
		}
	}
}

// Lookup returns the value of the first TLV of a type, and whether there is one. The value
// aliases t.
func (t TLVs) Lookup(typ TLVType) ([]byte, bool) {
	for typ2, value := range t.All() {
		if typ2 == typ {
			return value, true
		}
	}
	return nil, false
}

// only returns the value of the TLV of a type if there is exactly one.
func (t TLVs) only(typ TLVType) (only []byte, ok bool) {
	for typ2, value := range t.All() {
		if typ2 == typ {
			if ok {
				return nil, false
			}
			only, ok = value, true
		}
	}
	return only, ok
}

// ALPN returns the application protocol that the client negotiated with the proxy (section
// 2.2.1), "h2" for example, and whether the proxy said so. It aliases t.
//
// It is what was spoken with the client, and what follows the header only if the proxy passes
// that on unchanged.
//
// ALPN, Authority, UniqueID, NetNS and SSL report false if there are several TLVs of their type,
// which the spec neither forbids nor explains: HAProxy believes the last one and varnish the first.
// A proxy that passes TLVs on and appends its own sends such a header, and what the first one says
// may be the word of whoever sent it to the proxy. [TLVs.All] has them all.
func (t TLVs) ALPN() ([]byte, bool) { return t.only(TypeALPN) }

// Authority returns the host name that the client asked for, in UTF-8 (section 2.2.2), and
// whether there is exactly one: over TLS the server name of its hello (SNI). It aliases t.
//
// The client chose it, and neither the proxy nor Parse has checked that it is a name at all: don't
// authorize by it, and quote it in logs. The request that follows may ask for another host.
func (t TLVs) Authority() ([]byte, bool) { return t.only(TypeAuthority) }

// UniqueID returns the proxy's name for the connection, up to 128 bytes of any value (section
// 2.2.5), and whether it gave exactly one. Through a chain of proxies that pass it on it stays the
// same, so that their logs and yours can be joined. It aliases t.
func (t TLVs) UniqueID() ([]byte, bool) { return t.only(TypeUniqueID) }

// NetNS returns the name of the network namespace that the header's addresses belong to, in
// US-ASCII (section 2.2.7), and whether there is exactly one. The same address in two namespaces
// is two different clients. It aliases t.
func (t TLVs) NetNS() ([]byte, bool) { return t.only(TypeNetNS) }

// Append appends a TLV, as append does, and returns the extended vectors; value is copied. It
// is an error, with t returned as it was, if they would no longer fit in a header. For a
// CRC32C give four bytes of any value: [Header.AppendTo] computes it.
func (t TLVs) Append(typ TLVType, value []byte) (TLVs, error) {
	if len(t)+lenTLV+len(value) > maxHeader-lenV2 {
		return t, unencodable("the TLVs have more than 65535 bytes")
	}
	t = append(t, byte(typ))
	t = binary.BigEndian.AppendUint16(t, uint16(len(value)))
	return append(t, value...), nil
}

// Set returns a copy of t with one TLV of the type, at the end, in place of all that t has of it.
// Use it for what you know yourself, so that it doesn't stand beside what the hop before you said.
// It fails as [TLVs.Append] does, and then returns nil.
func (t TLVs) Set(typ TLVType, value []byte) (TLVs, error) {
	set, err := t.Without(typ).Append(typ, value)
	if err != nil {
		return nil, err
	}
	return set, nil
}

// Without returns a copy of t without the TLVs of these types. The copy ends where t stops being
// well-formed, which it does nowhere if Parse returned it.
func (t TLVs) Without(types ...TLVType) TLVs {
	kept := make(TLVs, 0, len(t))
	for typ, value := range t.All() {
		if !slices.Contains(types, typ) {
			kept = append(kept, byte(typ), byte(len(value)>>8), byte(len(value)))
			kept = append(kept, value...)
		}
	}
	return kept
}

// checkTLVs checks the TLVs of a header of size bytes which stand from byte at on. b is the
// header as far as it is there: it is refused as soon as no more bytes could repair it.
func checkTLVs(b []byte, at, size int) error {
	crc, err := frameTLVs(b, at, size)
	if err != nil {
		return err
	}
	// On the wire the checksum is in network byte order, as senders have it.
	if crc > 0 && len(b) == size && binary.BigEndian.Uint32(b[crc:]) != checksum(b, crc) {
		return formatError(badCRC32C, crc-lenTLV)
	}
	return nil
}

// frameTLVs checks the form of the same TLVs, and returns where the value of the CRC32C is,
// or 0 if there is none.
//
// What can't come right any more is refused before its last byte is there, and the checks are in
// the order in which bytes settle them, so that fewer bytes never break another rule than more.
func frameTLVs(b []byte, at, size int) (crc int, err *FormatError) {
	for at < size {
		// Most keep the rules that their type has by being whole: 17 instead of 22 ns for a header
		// with four TLVs.
		if at+2 < len(b) {
			n := int(b[at+1])<<8 | int(b[at+2])
			if next := at + lenTLV + n; next <= size && !TLVType(b[at]).judged(n) {
				at = next
				continue
			}
		}
		room := size - at - lenTLV
		if room < 0 {
			return 0, formatError(badTLVHead, at)
		}
		if at >= len(b) {
			return crc, nil
		}
		n, known := tlvLength(b, at)
		typ := TLVType(b[at])
		switch typ {
		case TypeCRC32C:
			if crc > 0 {
				return 0, formatError(badCRC32CTwice, at)
			}
			if !fills(lenCRC32C, room) || n > lenCRC32C || known && n < lenCRC32C {
				return 0, formatError(badCRC32CLength, at)
			}
			crc = at + lenTLV
		case TypeUniqueID:
			if n > maxUniqueID {
				return 0, formatError(badUniqueID, at)
			}
		case TypeSSL:
			if lenSSL < room && !fills(lenSSL, room) {
				return 0, formatError(badSubTLV, at+lenTLV+lenSSL)
			}
			if room < lenSSL || known && n < lenSSL {
				return 0, formatError(badSSL, at)
			}
		}
		if n > room {
			return 0, formatError(badTLVLength, at)
		}
		if !known {
			return crc, nil
		}
		next := at + lenTLV + n
		if typ == TypeSSL && fills(n, room) {
			if sub := frameSubTLVs(b, at+lenTLV+lenSSL, next); sub > 0 {
				return 0, formatError(badSubTLV, sub)
			}
		}
		at = next
	}
	return crc, nil
}

// judged reports whether a TLV with n bytes needs a closer look than at its length.
func (t TLVType) judged(n int) bool {
	return t == TypeCRC32C || t == TypeSSL || t == TypeUniqueID && n > maxUniqueID
}

// frameSubTLVs returns where the first TLV is that doesn't fit between at and end, or 0.
func frameSubTLVs(b []byte, at, end int) int {
	for at < end {
		if end < at+lenTLV {
			return at
		}
		if at >= len(b) {
			return 0
		}
		n, known := tlvLength(b, at)
		if at+lenTLV+n > end {
			return at
		}
		if !known {
			return 0
		}
		at += lenTLV + n
	}
	return 0
}

// fills reports whether a value of at least n bytes, alone or with TLVs after it, fills room bytes.
func fills(n, room int) bool { return room == n || room >= n+lenTLV }

// tlvLength returns the length of the value of the TLV at byte at if it is known, or else the
// least that it can be.
func tlvLength(b []byte, at int) (n int, known bool) {
	switch len(b) - at {
	case 1:
		return 0, false
	case 2:
		return int(b[at+1]) << 8, false
	}
	return int(binary.BigEndian.Uint16(b[at+1:])), true
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum returns the CRC32C of a header whose checksum's value is at byte at, which counts
// as zero (section 2.2.3). The four bytes that are there cancel out, being taken twice: that saves
// the third of three calls and 4 of 25 ns.
func checksum(header []byte, at int) uint32 {
	sum := crc32.Update(0, castagnoli, header[:at])
	sum ^= binary.LittleEndian.Uint32(header[at:])
	return crc32.Update(sum, castagnoli, header[at:])
}
