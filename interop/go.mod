module github.com/seed2e8fe8ee/proxyproto/interop

go 1.26.0

require (
	github.com/go-chi/chi/v5 v5.5.0
	github.com/realclientip/realclientip-go v1.0.0
	github.com/seed2e8fe8ee/proxyproto v0.0.0
	github.com/stretchr/testify v1.12.1
	golang.org/x/sys v0.49.0
)

require (
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/net v0.1.0 // indirect
)

replace github.com/seed2e8fe8ee/proxyproto => ../
