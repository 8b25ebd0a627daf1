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

var typeNames = map[TLVType]string{
	TypeALPN: "ALPN", TypeAuthority: "AUTHORITY", TypeCRC32C: "CRC32C", TypeNoop: "NOOP",
	TypeUniqueID: "UNIQUE_ID", TypeSSL: "SSL", TypeNetNS: "NETNS",
	SubtypeSSLVersion: "SSL_VERSION", SubtypeSSLCN: "SSL_CN", SubtypeSSLCipher: "SSL_CIPHER",
	SubtypeSSLSigAlg: "SSL_SIG_ALG", SubtypeSSLKeyAlg: "SSL_KEY_ALG", SubtypeSSLGroup: "SSL_GROUP",
	SubtypeSSLSigScheme: "SSL_SIG_SCHEME", SubtypeSSLClientCert: "SSL_CLIENT_CERT",
}

// String returns the spec's name without its prefix, or the number.
func (t TLVType) String() string {
	if name, ok := typeNames[t]; ok {
		return name
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

// plain reports whether t is well-formed and has nothing that needs a closer look (nor SSL), and
// where the value of the CRC32C is: 0 if there is none.
func (t TLVs) plain() (crc int, ok bool) {
	at := uint(0)
	for at+2 < uint(len(t)) {
		typ, n := TLVType(t[at]), uint(t[at+1])<<8|uint(t[at+2])
		if typ == TypeSSL || typ == TypeUniqueID && n > maxUniqueID {
			return 0, false
		}
		if typ == TypeCRC32C {
			if n != lenCRC32C || crc > 0 {
				return 0, false
			}
			crc = int(at) + lenTLV
		}
		at += lenTLV + n
	}
	return crc, at == uint(len(t))
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
// A sender says so what it knows itself, whatever the hop before said. The errors are those of
// [TLVs.Append], with a nil result.
func (t TLVs) Set(typ TLVType, value []byte) (TLVs, error) {
	return t.Without(typ).Append(typ, value)
}

// Without returns a copy of t without the TLVs of these types.
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
// header as far as it is there: it is refused as soon as no more bytes could mend it.
func checkTLVs(b []byte, at, size int) error {
	crc, err := frameTLVs(b, at, size)
	if err != nil {
		return err
	}
	if crc > 0 && len(b) == size {
		return verify(b, crc)
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
		room := size - at - lenTLV
		if room < 0 {
			return 0, formatError(badTLVHead, at)
		}
		if at >= len(b) {
			return crc, nil
		}
		n, known := tlvLength(b, at)
		switch TLVType(b[at]) {
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
		if next < size && size < next+lenTLV {
			return 0, formatError(badTLVHead, next)
		}
		if TLVType(b[at]) == TypeSSL {
			if sub := frameSubTLVs(b, at+lenTLV+lenSSL, next); sub > 0 {
				return 0, formatError(badSubTLV, sub)
			}
		}
		at = next
	}
	return crc, nil
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

// fills reports whether a value of at least n bytes, alone or with TLVs behind it, fills room bytes.
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

// verify compares the CRC32C of a header with the one that it has at byte at. On the wire the
// number is in network byte order, as senders do.
func verify(header []byte, at int) error {
	if binary.BigEndian.Uint32(header[at:]) != checksum(header, at) {
		return formatError(badCRC32C, at-lenTLV)
	}
	return nil
}

// checksum returns the CRC32C of a header whose checksum's value is at byte at, which counts
// as zero (section 2.2.3). The four bytes that are there cancel out, being taken twice: that saves
// the third of three calls and 4 of 25 ns.
func checksum(header []byte, at int) uint32 {
	sum := crc32.Update(0, castagnoli, header[:at])
	sum ^= binary.LittleEndian.Uint32(header[at:])
	return crc32.Update(sum, castagnoli, header[at:])
}
