module github.com/seed2e8fe8ee/proxyproto/interop/udp

go 1.26.0

require (
	github.com/coredns/coredns v1.15.0
	github.com/fatedier/frp v0.70.0
	github.com/miekg/dns v1.1.73
	github.com/pires/go-proxyproto v0.15.0
	github.com/quic-go/quic-go v0.64.1
	github.com/seed2e8fe8ee/proxyproto v0.0.0
	github.com/seed2e8fe8ee/proxyproto/interop v0.0.0
	github.com/stretchr/testify v1.12.1
	golang.org/x/net v0.62.0
)

require (
	github.com/Azure/go-ntlmssp v0.1.0 // indirect
	github.com/fatedier/golib v0.7.0 // indirect
	github.com/golang/snappy v0.0.4 // indirect
	github.com/hashicorp/golang-lru/v2 v2.0.7 // indirect
	github.com/klauspost/cpuid/v2 v2.4.0 // indirect
	github.com/klauspost/reedsolomon v1.12.0 // indirect
	github.com/pkg/errors v0.9.1 // indirect
	github.com/quic-go/qpack v0.6.0 // indirect
	github.com/templexxx/cpu v0.1.1 // indirect
	github.com/templexxx/xorsimd v0.4.3 // indirect
	github.com/tjfoc/gmsm v1.4.1 // indirect
	github.com/xtaci/kcp-go/v5 v5.6.13 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace (
	github.com/seed2e8fe8ee/proxyproto => ../../
	github.com/seed2e8fe8ee/proxyproto/interop => ../
)
