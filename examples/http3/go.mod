module github.com/seed2e8fe8ee/proxyproto/examples/http3

go 1.26.0

replace github.com/seed2e8fe8ee/proxyproto => ../../

require (
	github.com/quic-go/quic-go v0.64.1
	github.com/seed2e8fe8ee/proxyproto v0.0.0
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/quic-go/qpack v0.6.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/crypto v0.54.0 // indirect
	golang.org/x/net v0.56.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
	golang.org/x/text v0.40.0 // indirect
)
