package main

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

func networkError(err error) error { return &failure{exitNetwork, err} }

// connect connects within the time limit, and says what went wrong if that fails.
func connect(ctx context.Context, network, address string, limit time.Duration) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: limit}).DialContext(ctx, network, address)
	if err == nil {
		return conn, nil
	}
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &dns):
		err = fmt.Errorf("can't find the host %q: %s", dns.Name, dns.Err)
	case errors.Is(err, syscall.ECONNREFUSED):
		err = nobodyListens(address)
	case errors.As(err, &timeout) && timeout.Timeout():
		err = fmt.Errorf("%s doesn't answer: no connection within %v", address, limit)
	}
	return nil, networkError(err)
}

func nobodyListens(address string) error {
	return fmt.Errorf("%s: connection refused: nobody listens there", address)
}

// tlsError says why a handshake failed.
func tlsError(err error, limit time.Duration) error {
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &record):
		err = fmt.Errorf("the server doesn't speak TLS there: it answered %s",
			quote(record.RecordHeader[:]))
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("no TLS handshake within %v", limit)
	default:
		err = fmt.Errorf("the TLS handshake: %w", err)
	}
	return networkError(err)
}

// dump is a header as hexdump -C prints it.
func dump(b []byte) []byte { return []byte(hex.Dump(b)) }
