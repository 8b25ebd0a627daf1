// Package kubeproxy pins the kube-proxy that interop/kubernetes builds and runs; it has no code.
// Kubernetes' own go.mod takes the modules that it is made of from its repository. Here they are
// replaced by the published ones of the same release, each v0.X.Y for v1.X.Y. For another release
// change all the numbers and run go mod tidy.
package kubeproxy
