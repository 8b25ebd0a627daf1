module github.com/seed2e8fe8ee/proxyproto

go 1.26.0

require (
	github.com/stretchr/testify v1.12.1
	golang.org/x/net v0.1.0
)

require (
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.1.0 // indirect
)
