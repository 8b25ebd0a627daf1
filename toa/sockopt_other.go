//go:build !linux

package toa

import (
	"errors"
	"fmt"
	"runtime"
)

func getsockopt(int, *answer) error {
	return fmt.Errorf("toa: on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func settle(int) {}
