package proxyudp

import (
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

func TestSender(t *testing.T) {
	server := newPacketConn(t, &Config{Policy: requireAll})
	h := headerOf(proxyproto.TCP4, testSource, testDestination, 0xE0, 0, 1, 'x')
	const limit = 32 + 10
	dialed, err := net.Dial("udp", server.LocalAddr().String())
	require.NoError(t, err)
	defer dialed.Close()
	dialed.SetDeadline(time.Now().Add(30 * time.Second))
	for name, inner := range map[string]net.PacketConn{
		"unconnected": listenUDP(t, "127.0.0.1:0"), "connected": dialed.(*net.UDPConn),
	} {
		s, err := NewSender(inner, &h, limit)
		require.NoError(t, err)
		write := s.Write
		if name == "unconnected" {
			write = func(b []byte) (int, error) { return s.WriteTo(b, server.LocalAddr()) }
			_, err := s.Write([]byte("to nobody"))
			assert.Error(t, err)
		} else {
			_, err := s.WriteTo([]byte("twice addressed"[:9]), server.LocalAddr())
			assert.ErrorIs(t, err, net.ErrWriteToConnected, "as on a bare socket")
		}
		for _, payload := range []string{"", "hello", "0123456789"} {
			n, err := write([]byte(payload))
			require.NoError(t, err)
			assert.Equal(t, len(payload), n)
			got, addr := receive(t, server)
			assert.Equal(t, payload, got)
			assert.Equal(t, testSource, addr.String())
			_, err = server.WriteTo([]byte("reply"), addr)
			require.NoError(t, err)
			b := make([]byte, 100)
			if name == "connected" {
				n, err = s.Read(b)
			} else {
				n, _, err = s.ReadFrom(b)
			}
			require.NoError(t, err)
			assert.Equal(t, "reply", string(b[:n]))
		}
		n, err := write([]byte("0123456789a"))
		assert.Zero(t, n)
		assert.ErrorIs(t, err, ErrTooLong)
		assert.Equal(t, inner.LocalAddr(), s.LocalAddr())
		assert.Equal(t, inner.(net.Conn).RemoteAddr(), s.RemoteAddr())
		assert.Same(t, inner, s.NetPacketConn())

		require.NoError(t, s.SetReadDeadline(time.Unix(1, 0)))
		_, err = s.Read(make([]byte, 1))
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, s.SetWriteDeadline(time.Unix(1, 0)))
		_, err = write(nil)
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, s.SetDeadline(time.Time{}))
		_, err = write(nil)
		assert.NoError(t, err)
		receive(t, server)
		require.NoError(t, s.Close())
		_, err = write(nil)
		assert.ErrorIs(t, err, net.ErrClosed)
	}
}

func TestSenderRefuses(t *testing.T) {
	h := testHeader()
	inner := listenUDP(t, "127.0.0.1:0")
	_, err := NewSender(inner, nil, 0)
	assert.ErrorContains(t, err, "header is nil")
	_, err = NewSender((*net.UDPConn)(nil), &h, 0)
	assert.ErrorContains(t, err, "connection is nil")
	_, err = NewSender(inner, &h, 27)
	assert.ErrorIs(t, err, ErrTooLong, "there is no room for a payload")
	s, err := NewSender(&fakePackets{local: &net.UDPAddr{}}, &h, 0)
	require.NoError(t, err)
	_, err = s.Write(nil)
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = s.Read(nil)
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	assert.Nil(t, s.RemoteAddr())
	_, err = s.WriteTo(make([]byte, 70000), inner.LocalAddr())
	assert.NoError(t, err, "zero is no limit")
}

// Many goroutines send through one, as a net.PacketConn allows.
func TestSenderConcurrently(t *testing.T) {
	server := newPacketConn(t, &Config{Policy: requireAll})
	h := testHeader()
	s, err := NewSender(listenUDP(t, "127.0.0.1:0"), &h, 0)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 10 {
				_, err := s.WriteTo([]byte{byte(i), byte(i), byte(i)}, server.LocalAddr())
				assert.NoError(t, err)
			}
		})
	}
	for range 80 {
		payload, addr := receive(t, server)
		require.Len(t, payload, 3)
		assert.Equal(t, payload[0], payload[2])
		assert.Equal(t, testSource, addr.String())
	}
	wg.Wait()
}
