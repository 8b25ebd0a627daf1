module github.com/seed2e8fe8ee/proxyproto

go 1.26.0

require (
	github.com/stretchr/testify v1.8.3
	golang.org/x/net v0.1.0
)

require (
	github.com/davecgh/go-spew v1.1.1 // indirect
	github.com/pmezard/go-difflib v1.0.0 // indirect
	golang.org/x/sys v0.1.0 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
)
