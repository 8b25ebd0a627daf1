//go:build unix && !portable

package proxyproto

const portable = false
