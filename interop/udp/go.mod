module github.com/seed2e8fe8ee/proxyproto/interop/udp

go 1.26.0

require (
	github.com/coredns/coredns v1.15.0
	github.com/miekg/dns v1.1.73
	github.com/pires/go-proxyproto v0.15.0
	github.com/quic-go/quic-go v0.64.1
	github.com/seed2e8fe8ee/proxyproto v0.0.0
	github.com/seed2e8fe8ee/proxyproto/interop v0.0.0
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/hashicorp/golang-lru/v2 v2.0.7 // indirect
	github.com/quic-go/qpack v0.6.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace (
	github.com/seed2e8fe8ee/proxyproto => ../../
	github.com/seed2e8fe8ee/proxyproto/interop => ../
)
