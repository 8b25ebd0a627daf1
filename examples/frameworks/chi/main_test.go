package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/examples/frameworks/internal/chain"
)

func TestClients(t *testing.T) {
	srv, err := newServer()
	require.NoError(t, err)
	chain.Test(t, srv)
}
