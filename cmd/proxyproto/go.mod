module github.com/seed2e8fe8ee/proxyproto/cmd/proxyproto

go 1.26.0

require (
	github.com/gopacket/gopacket v1.7.7
	github.com/seed2e8fe8ee/proxyproto v0.0.0
	github.com/spf13/cobra v1.10.2
	github.com/spf13/pflag v1.0.9
	github.com/stretchr/testify v1.12.1
	golang.org/x/net v0.62.0
)

require (
	github.com/cpuguy83/go-md2man/v2 v2.0.6 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/russross/blackfriday/v2 v2.1.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/seed2e8fe8ee/proxyproto => ../../
