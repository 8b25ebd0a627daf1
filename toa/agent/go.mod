module github.com/seed2e8fe8ee/proxyproto/toa/agent

go 1.26.0

require (
	github.com/cilium/ebpf v0.22.0
	github.com/seed2e8fe8ee/proxyproto v0.0.0
	github.com/stretchr/testify v1.12.1
	golang.org/x/sys v0.49.0
)

require go.yaml.in/yaml/v3 v3.0.5 // indirect

replace github.com/seed2e8fe8ee/proxyproto => ../..
