// Package pcap reads out of a packet capture what was sent first on each TCP connection, and what
// was sent in each UDP datagram. It reads the files of tcpdump and Wireshark: pcap and pcapng.
package pcap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The first four bytes of a file, as a number in the byte order of its writer. A pcapng file
// begins with a block whose type reads the same in both orders.
const (
	magicMicroseconds = 0xA1B2C3D4
	magicNanoseconds  = 0xA1B23C4D
	magicNG           = 0x0A0D0D0A
)

// Types of pcapng's blocks, and what tells a section's byte order.
const (
	blockSection        = magicNG
	blockInterface      = 1
	blockPacket         = 2 // obsolete
	blockSimplePacket   = 3
	blockEnhancedPacket = 6

	byteOrderMagic = 0x1A2B3C4D
)

// maxRecord is more than any packet or block that capturing programs write.
const maxRecord = 1 << 20

var errNotCapture = errors.New("not a pcap or pcapng file")

// Is reports whether b begins as a capture file does.
func Is(b []byte) bool {
	if len(b) < 4 {
		return false
	}
	switch binary.LittleEndian.Uint32(b) {
	case magicMicroseconds, magicNanoseconds, magicNG:
		return true
	}
	switch binary.BigEndian.Uint32(b) {
	case magicMicroseconds, magicNanoseconds:
		return true
	}
	return false
}

// packet is one record of a capture file.
type packet struct {
	number int    // in the file, from 1
	link   uint32 // what data begins with: a LINKTYPE_ value
	data   []byte // valid until the next is read
}

// file reads packets from a capture file.
type file struct {
	r     io.Reader
	order binary.ByteOrder
	ng    bool
	link  uint32      // of all packets, in a pcap file
	ifs   []ngNetwork // in a section of a pcapng file
	n     int
	buf   []byte
}

type ngNetwork struct{ link, snapLen uint32 }

func newFile(r io.Reader) (*file, error) {
	f := &file{r: r}
	head, err := f.read(4)
	if err != nil {
		return nil, errNotCapture
	}
	if binary.LittleEndian.Uint32(head) == magicNG {
		f.ng = true
		return f, f.section()
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if magic := order.Uint32(head); magic == magicMicroseconds || magic == magicNanoseconds {
			f.order = order
		}
	}
	if f.order == nil {
		return nil, errNotCapture
	}
	head, err = f.readAll(20)
	if err != nil {
		return nil, err
	}
	f.link = f.order.Uint32(head[16:]) & 0xFFFF // the rest says how long the frames' checksums are
	return f, nil
}

// next returns the next packet, io.EOF behind the last one, or io.ErrUnexpectedEOF if the
// file ends inside one.
func (f *file) next() (packet, error) {
	if f.ng {
		return f.nextNG()
	}
	head, err := f.read(16)
	if err != nil {
		return packet{}, err
	}
	data, err := f.readAll(f.order.Uint32(head[8:]))
	if err != nil {
		return packet{}, err
	}
	f.n++
	return packet{f.n, f.link, data}, nil
}

func (f *file) nextNG() (packet, error) {
	for {
		head, err := f.read(4)
		if err != nil {
			return packet{}, err
		}
		kind := f.order.Uint32(head)
		if kind == blockSection {
			if err := f.section(); err != nil {
				return packet{}, err
			}
			continue
		}
		head, err = f.readAll(4)
		if err != nil {
			return packet{}, err
		}
		body, err := f.body(f.order.Uint32(head))
		if err != nil {
			return packet{}, err
		}
		switch kind {
		case blockInterface:
			if len(body) < 8 {
				return packet{}, errBlock(kind)
			}
			f.ifs = append(f.ifs, ngNetwork{uint32(f.order.Uint16(body)), f.order.Uint32(body[4:])})
		case blockEnhancedPacket, blockPacket, blockSimplePacket:
			return f.ngPacket(kind, body)
		}
	}
}

// ngPacket returns the packet in the body of a block.
func (f *file) ngPacket(kind uint32, body []byte) (packet, error) {
	id, size, start := uint32(0), uint32(0), 20
	switch {
	case kind == blockSimplePacket && len(body) >= 4:
		start, size = 4, f.order.Uint32(body)
		if len(f.ifs) > 0 && f.ifs[0].snapLen > 0 {
			size = min(size, f.ifs[0].snapLen)
		}
	case kind == blockEnhancedPacket && len(body) >= start:
		id, size = f.order.Uint32(body), f.order.Uint32(body[12:])
	case kind == blockPacket && len(body) >= start:
		id, size = uint32(f.order.Uint16(body)), f.order.Uint32(body[12:])
	default:
		return packet{}, errBlock(kind)
	}
	if uint64(id) >= uint64(len(f.ifs)) || uint64(size) > uint64(len(body)-start) {
		return packet{}, errBlock(kind)
	}
	f.n++
	return packet{f.n, f.ifs[id].link, body[start:][:size]}, nil
}

// section reads the block that begins a section of a pcapng file, behind its type.
func (f *file) section() error {
	head, err := f.readAll(8)
	if err != nil {
		return err
	}
	switch uint32(byteOrderMagic) {
	case binary.LittleEndian.Uint32(head[4:]):
		f.order = binary.LittleEndian
	case binary.BigEndian.Uint32(head[4:]):
		f.order = binary.BigEndian
	default:
		return errNotCapture
	}
	f.ifs = nil
	size := f.order.Uint32(head)
	if size < 16 {
		return errBlock(blockSection)
	}
	_, err = f.body(size - 4) // the byte order has been read
	return err
}

// body reads what is left of a pcapng block of size bytes behind its type and length, and
// returns it without the length that ends it.
func (f *file) body(size uint32) ([]byte, error) {
	if size < 12 || size%4 != 0 {
		return nil, fmt.Errorf("a pcapng block has the length %d", size)
	}
	b, err := f.readAll(size - 8)
	if err != nil {
		return nil, err
	}
	return b[:len(b)-4], nil
}

func errBlock(kind uint32) error {
	return fmt.Errorf("a pcapng block of type %d is damaged", kind)
}

// readAll is read in the middle of a record.
func (f *file) readAll(n uint32) ([]byte, error) {
	b, err := f.read(n)
	if err == io.EOF && n > 0 {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

// read reads n bytes, which are valid until the next call.
func (f *file) read(n uint32) ([]byte, error) {
	if n > maxRecord {
		return nil, fmt.Errorf("a packet of %d bytes: the file is damaged", n)
	}
	if int(n) > cap(f.buf) {
		f.buf = make([]byte, n)
	}
	_, err := io.ReadFull(f.r, f.buf[:n])
	return f.buf[:n], err
}
