//go:build !linux

package main

import (
	"errors"

	"github.com/seed2e8fe8ee/proxyproto"
)

// onlyUser is an error: each system asks for a peer's user in its own way.
func onlyUser(uint32) (proxyproto.Policy, error) {
	return nil, errors.New("-uid is for Linux")
}
