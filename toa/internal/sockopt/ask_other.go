//go:build !linux

package sockopt

import (
	"errors"
	"fmt"
	"runtime"
)

func getsockopt(int, *Answer) error {
	return fmt.Errorf("toa: on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func settle(int) {}
