package proxyproto

import "log/slog"

// LogDrops
func LogDrops(l *slog.Logger) func(p Peer, drop *DropError) { return nil }

// SampleDrops
func SampleDrops(log func(p Peer, drop *DropError, suppressed uint64)) func(p Peer, drop *DropError) {
	return nil
}
