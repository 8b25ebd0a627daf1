module github.com/seed2e8fe8ee/proxyproto/examples/dns

go 1.26.0

replace github.com/seed2e8fe8ee/proxyproto => ../../

require (
	github.com/miekg/dns v1.1.73
	github.com/seed2e8fe8ee/proxyproto v0.0.0
	github.com/stretchr/testify v1.12.1
)

require (
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)
