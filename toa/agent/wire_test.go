package agent

import (
	"encoding/binary"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// inNamespace runs f on a thread of its own with a network namespace of its own, which ends with it.
func inNamespace(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if assert.NoError(t, unix.Unshare(unix.CLONE_NEWNET)) {
			f()
		}
	}()
	<-done
}

func sysctl(t *testing.T, name, value string) {
	t.Helper()
	require.NoError(t, os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0))
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	require.NoError(t, err, "ip %v: %s", args, out)
}

// A wire is a TUN device, behind which TCP clients are made byte by byte.
type wire struct {
	t       *testing.T
	tun     *os.File
	mu      sync.Mutex
	clients map[uint16]chan []byte // where packets to their ports go
	port    atomic.Uint32          // of the last client
}

var (
	server4, client4 = netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("10.77.0.2")
	server6, client6 = netip.MustParseAddr("fd77::1"), netip.MustParseAddr("fd77::2")
)

func newWire(t *testing.T) *wire {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	var request [40]byte // struct ifreq
	copy(request[:], "toa0")
	binary.NativeEndian.PutUint16(request[unix.IFNAMSIZ:], unix.IFF_TUN|unix.IFF_NO_PI)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(&request)))
	require.Zero(t, errno)
	sysctl(t, "net.ipv6.conf.toa0.accept_dad", "0")
	ip(t, "addr", "add", server4.String()+"/24", "dev", "toa0")
	ip(t, "-6", "addr", "add", server6.String()+"/64", "dev", "toa0")
	ip(t, "link", "set", "toa0", "up")
	ip(t, "link", "set", "lo", "up")
	require.NoError(t, unix.SetNonblock(fd, true))
	w := &wire{t: t, tun: os.NewFile(uintptr(fd), "tun"), clients: map[uint16]chan []byte{}}
	w.port.Store(20000)
	go w.receive()
	t.Cleanup(func() { w.tun.Close() })
	return w
}

// receive hands the server's segments to the clients until the device is closed.
func (w *wire) receive() {
	packet := make([]byte, 4096)
	for {
		n, err := w.tun.Read(packet)
		if err != nil {
			return
		}
		var segment []byte
		switch p := packet[:n]; {
		case n >= 40 && p[0]>>4 == 4 && p[9] == unix.IPPROTO_TCP:
			segment = p[int(p[0]&15)*4:]
		case n >= 60 && p[0]>>4 == 6 && p[6] == unix.IPPROTO_TCP:
			segment = p[40:]
		default:
			continue
		}
		w.mu.Lock()
		client := w.clients[binary.BigEndian.Uint16(segment[2:])]
		w.mu.Unlock()
		select {
		case client <- append([]byte(nil), segment...):
		default:
		}
	}
}

// A rawClient is one end of a connection, in as far as it takes to complete a handshake.
type rawClient struct {
	w           *wire
	ipv6        bool
	port        uint16
	serverPort  uint16
	seq, ack    uint32
	fromServers chan []byte
}

func (w *wire) client(ipv6 bool, serverPort uint16) *rawClient {
	c := &rawClient{
		w: w, ipv6: ipv6, port: uint16(w.port.Add(1)), serverPort: serverPort, seq: 1000,
		fromServers: make(chan []byte, 16),
	}
	w.mu.Lock()
	w.clients[c.port] = c.fromServers
	w.mu.Unlock()
	return c
}

const (
	flagFIN = 1
	flagURG = 32
)

// checksum is the Internet checksum of all parts together; all but the last have an even length.
func checksum(parts ...[]byte) uint16 {
	var sum uint32
	for _, b := range parts {
		for i := 0; i+1 < len(b); i += 2 {
			sum += uint32(b[i])<<8 | uint32(b[i+1])
		}
		if len(b)%2 == 1 {
			sum += uint32(b[len(b)-1]) << 8
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// send sends a segment with these options, padded with zeros.
func (c *rawClient) send(flags byte, options, data []byte) {
	for len(options)%4 != 0 {
		options = append(options[:len(options):len(options)], 0)
	}
	require.LessOrEqual(c.w.t, len(options), 40)
	segment := make([]byte, tcpHeader, tcpMaxHeader+len(data))
	binary.BigEndian.PutUint16(segment[0:], c.port)
	binary.BigEndian.PutUint16(segment[2:], c.serverPort)
	binary.BigEndian.PutUint32(segment[4:], c.seq)
	binary.BigEndian.PutUint32(segment[8:], c.ack)
	segment[tcpDataOff] = byte((tcpHeader+len(options))/4) << 4
	segment[tcpFlags] = flags
	binary.BigEndian.PutUint16(segment[14:], 65000)
	segment = append(append(segment, options...), data...)
	src, dst := client4, server4
	if c.ipv6 {
		src, dst = client6, server6
	}
	pseudo := binary.BigEndian.AppendUint32([]byte{0, unix.IPPROTO_TCP}, uint32(len(segment)))
	binary.BigEndian.PutUint16(segment[16:], checksum(src.AsSlice(), dst.AsSlice(), pseudo, segment))
	var header []byte
	if c.ipv6 {
		header = []byte{0x60, 0, 0, 0, 0, 0, unix.IPPROTO_TCP, 64}
		binary.BigEndian.PutUint16(header[4:], uint16(len(segment)))
		header = append(append(header, src.AsSlice()...), dst.AsSlice()...)
	} else {
		header = []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_TCP, 0, 0}
		binary.BigEndian.PutUint16(header[2:], uint16(20+len(segment)))
		header = append(append(header, src.AsSlice()...), dst.AsSlice()...)
		binary.BigEndian.PutUint16(header[10:], checksum(header))
	}
	_, err := c.w.tun.Write(append(header, segment...))
	require.NoError(c.w.t, err)
	c.seq += uint32(len(data))
	if flags&(flagSYN|flagFIN) != 0 {
		c.seq++
	}
}

// syn sends a SYN and takes the SYN-ACK.
func (c *rawClient) syn(options, data []byte) {
	c.send(flagSYN, options, data)
	select {
	case segment := <-c.fromServers:
		require.Equal(c.w.t, byte(flagSYN|flagACK), segment[tcpFlags]&(flagSYN|flagACK|4))
		c.ack = binary.BigEndian.Uint32(segment[4:]) + 1
	case <-time.After(10 * time.Second):
		require.Fail(c.w.t, "no SYN-ACK")
	}
}

// Options for SYNs and other packets.
var (
	mss        = []byte{2, 4, 5, 0xb4}
	timestamps = []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0}
	fastOpen   = []byte{254, 8, 0xf9, 0x89, 1, 2, 3, 4} // the experimental form of a cookie
)

func cat(parts ...[]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func noOps(n int) []byte { return []byte(strings.Repeat("\x01", n)) }

// withLength returns an option that lies about its length.
func withLength(option []byte, length byte) []byte {
	return cat(option[:1], []byte{length}, option[2:])
}
