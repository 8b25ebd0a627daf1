module github.com/seed2e8fe8ee/proxyproto

go 1.26
