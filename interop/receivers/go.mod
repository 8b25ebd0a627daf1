module github.com/seed2e8fe8ee/proxyproto/interop/receivers

go 1.26.0

require (
	github.com/armon/go-proxyproto v0.0.0-20210323213023-7e956b284f0a
	github.com/mastercactapus/proxyprotocol v0.0.4
	github.com/pires/go-proxyproto v0.15.0
	github.com/seed2e8fe8ee/proxyproto v0.0.0
	github.com/seed2e8fe8ee/proxyproto/interop v0.0.0
	github.com/stretchr/testify v1.12.1
)

require (
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/net v0.55.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace (
	github.com/seed2e8fe8ee/proxyproto => ../..
	github.com/seed2e8fe8ee/proxyproto/interop => ..
)
