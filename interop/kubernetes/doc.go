// Package kubernetes runs the real kube-proxy with the real kernel, without a cluster: two nodes
// with pods, a balancer and clients are network namespaces, and an API server is stood in for. Its
// tests find out which address a Go server's socket sees on each way that leads to it, and what
// the policies of docs/deploy.md make of that, forged headers included. It has nothing but tests.
//
// They need root, or the capabilities CAP_SYS_ADMIN and CAP_NET_ADMIN, and Debian's nftables,
// iptables, iproute2 and nginx. Building kube-proxy takes some minutes the first time: make e2e
// shows how far it is.
package kubernetes
