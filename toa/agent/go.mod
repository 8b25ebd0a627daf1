module github.com/seed2e8fe8ee/proxyproto/toa/agent

go 1.26.0

require (
	github.com/cilium/ebpf v0.22.0
	github.com/seed2e8fe8ee/proxyproto v0.0.0
	golang.org/x/sys v0.49.0
)

replace github.com/seed2e8fe8ee/proxyproto => ../..
