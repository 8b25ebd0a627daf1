package servertest

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/seed2e8fe8ee/proxyproto"
)

// chunks reads a string in two parts, and then ends.
func chunks(s string, split int) io.Reader {
	return io.MultiReader(strings.NewReader(s[:split]), strings.NewReader(s[split:]))
}

func TestReadHeaderTakesTheHeaderAlone(t *testing.T) {
	long := testHeader()
	long.TLVs, _ = long.TLVs.Append(TypeNoop, make([]byte, 3000))
	for name, wire := range map[string]string{
		"v1": testLineV1, "unknown": "PROXY UNKNOWN\r\n", "v2": encode(t, testHeader()),
		"local": localV2, "with TLVs": encode(t, long),
	} {
		const payload = "PROXY is the payload's first word"
		for split := range len(wire + payload) {
			for _, size := range []int{16, len(wire), len(wire) + 1, 8192} {
				if size < len(wire) {
					continue
				}
				r := bufio.NewReaderSize(chunks(wire+payload, split), size)
				h, err := ReadHeader(r)
				require.NoError(t, err, "%s split at %d, buffer of %d", name, split, size)
				assert.Equal(t, wire, encode(t, *h))
				rest, err := io.ReadAll(r)
				require.NoError(t, err)
				assert.Equal(t, payload, string(rest))
				assert.Equal(t, wire, encode(t, *h), "the header shares memory with the reader")
			}
		}
	}
}

func TestReadHeaderWithoutOne(t *testing.T) {
	for _, sent := range []string{"GET / HTTP/1.1\r\n\r\n", "PROX", "PRO ", "\r\n\r\n\x00\r\nQUIx",
		"\r\n"} {
		for split := range sent {
			r := bufio.NewReader(chunks(sent, split))
			h, err := ReadHeader(r)
			assert.Nil(t, h)
			assert.Equal(t, ErrNoHeader, err, "%q", sent)
			rest, err := io.ReadAll(r)
			assert.NoError(t, err)
			assert.Equal(t, sent, string(rest))
		}
	}
	_, err := ReadHeader(bufio.NewReader(strings.NewReader("")))
	assert.Equal(t, io.EOF, err)
	broken := errors.New("broken")
	for _, sent := range []string{"", "PROXY", localV2[:13]} {
		r := io.MultiReader(strings.NewReader(sent), iotest.ErrReader(broken))
		_, err = ReadHeader(bufio.NewReader(r))
		assert.Equal(t, broken, err)
	}
}

func TestReadHeaderThatIsNone(t *testing.T) {
	for sent, want := range map[string]error{
		"PROXY":                      ErrIncomplete,
		localV2[:12]:                 ErrIncomplete,
		"PROXY TCP4 x":               ErrMalformed,
		signatureV2 + "\x31":         ErrMalformed,
		encode(t, testHeader())[:27]: ErrIncomplete,
	} {
		_, err := ReadHeader(bufio.NewReader(iotest.OneByteReader(strings.NewReader(sent))))
		assert.ErrorIs(t, err, want, "%q", sent)
	}
	// Longer than the buffer.
	for _, sent := range []string{testLineV1, signatureV2 + "\x21\x11\x00\x0c" + "............"} {
		_, err := ReadHeader(bufio.NewReaderSize(strings.NewReader(sent), 16))
		assert.ErrorIs(t, err, ErrIncomplete)
		assert.ErrorContains(t, err, "the reader's buffer has 16")
	}
}

// A program that goes on with the inner connection beneath a reader that has been drained.
func TestReadHeaderAndThenTheConnectionItself(t *testing.T) {
	client, server := tcpPair(t)
	r := bufio.NewReader(server)
	_, err := io.WriteString(client, testLineV1+"first")
	require.NoError(t, err)
	_, err = ReadHeader(r)
	require.NoError(t, err)
	assert.Equal(t, "first", readString(t, r, 5))
	require.Zero(t, r.Buffered())
	_, err = io.WriteString(client, "second")
	require.NoError(t, err)
	assert.Equal(t, "second", readString(t, server, 6))
}

// Bytes of another protocol are called by its name.
func TestNotAHeaderSaysWhatItIs(t *testing.T) {
	for sent, want := range map[string]string{
		"\x16\x03\x01\x02\x00": "a TLS ClientHello", "SSH-2.0-x\r\n": "an SSH greeting",
		"PUT /x HTTP/1.1\r\n": "an HTTP request", "PRI * HTTP/2.0\r\n\r\n": "an HTTP request",
		"\x16\x04": "", "PUTx": "",
	} {
		client, server := net.Pipe()
		go func() {
			io.WriteString(client, sent)
			client.Close()
		}()
		c, err := NewConn(server, &Config{Policy: Always(Require)})
		require.NoError(t, err)
		_, err = c.Read(make([]byte, 1))
		assert.ErrorIs(t, err, ErrNoHeader)
		if want == "" { // it is no known one
			assert.Equal(t, ErrNoHeader, errors.Unwrap(requireDrop(t, err)))
		} else {
			assert.ErrorContains(t, err, want)
		}
	}
}
