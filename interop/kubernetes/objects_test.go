//go:build linux

package kubernetes

import (
	"fmt"
	"strings"
)

// A service is a Service of the cluster, of both families, with one pod.
type service struct {
	n        int // of its addresses and node port
	name     string
	local    bool // externalTrafficPolicy
	proxied  bool // ipMode: Proxy
	inside   bool // type ClusterIP
	endpoint func(family) string
	node     int // which the endpoint is on
	port     int // of the endpoint
}

const (
	servicePort  = 9000
	serverPort   = 8080
	clientIPPort = 8081
	ingressPort  = 80
	untoldPort   = 81 // of an ingress that hasn't been told of PROXY

	ipTargets = 20 // the balancer's address whose targets are pods
)

var (
	podA    = func(f family) string { return f.pod(1, 2) }
	ingress = func(f family) string { return f.pod(2, 4) }
	hostNet = func(f family) string { return f.node(2) }

	services = []service{
		{n: 1, name: "cluster", endpoint: podA, node: 1, port: serverPort},
		{n: 2, name: "local", local: true, endpoint: podA, node: 1, port: serverPort},
		{n: 3, name: "cluster-proxy", proxied: true, endpoint: podA, node: 1, port: serverPort},
		{n: 4, name: "local-proxy", local: true, proxied: true, endpoint: podA, node: 1,
			port: serverPort},
		{n: 5, name: "host-cluster", endpoint: hostNet, node: 2, port: serverPort},
		{n: 6, name: "host-local", local: true, endpoint: hostNet, node: 2, port: serverPort},
		{n: 7, name: "ingress-cluster", endpoint: ingress, node: 2, port: ingressPort},
		{n: 8, name: "ingress-local", local: true, endpoint: ingress, node: 2, port: ingressPort},
		{n: 9, name: "untold", endpoint: ingress, node: 2, port: untoldPort},
		{n: 10, name: "go", inside: true, endpoint: podA, node: 1, port: clientIPPort},
	}
)

// The numbers of the Services that externalTrafficPolicy doesn't matter to: where the ingress finds
// the Go server, and an ingress that hasn't been told of PROXY.
const (
	goService     = 10
	untoldService = 9
)

// numbers are those of the Services that differ in externalTrafficPolicy.
type numbers struct{ vip, proxied, host, ingress int }

var (
	underCluster = numbers{1, 3, 5, 7}
	underLocal   = numbers{2, 4, 6, 8}
)

func (s service) nodePort() int { return 30000 + s.n }

// healthPort is a Service's healthCheckNodePort. Only those with policy Local have one.
func (s service) healthPort() int { return 32000 + s.n }

// An object is what the API server sends, as JSON.
type object = map[string]any

// objects returns all that kube-proxy asks for, by the path on which it does.
func objects() map[string][]object {
	all := map[string][]object{}
	add := func(path, apiVersion, kind string, metadata, o object) {
		metadata["resourceVersion"], metadata["uid"] = "1", fmt.Sprint(kind, "-", metadata["name"])
		o["apiVersion"], o["kind"], o["metadata"] = apiVersion, kind, metadata
		all[path] = append(all[path], o)
	}
	for i := 1; i <= 2; i++ {
		name := fmt.Sprintf("node%d", i)
		add("/api/v1/nodes", "v1", "Node", object{"name": name}, object{
			"spec": object{
				"podCIDR":  ipv4.podsOf(i),
				"podCIDRs": both(func(f family) string { return f.podsOf(i) }),
			},
			"status": object{"addresses": []object{
				{"type": "InternalIP", "address": ipv4.node(i)},
				{"type": "InternalIP", "address": ipv6.node(i)},
				{"type": "Hostname", "address": name},
			}},
		})
	}
	for _, s := range services {
		add("/api/v1/services", "v1", "Service",
			object{"name": s.name, "namespace": "default"}, s.object())
		for _, f := range families {
			name := s.name + "-" + strings.ToLower(f.String())
			add("/apis/discovery.k8s.io/v1/endpointslices", "discovery.k8s.io/v1", "EndpointSlice", object{
				"name": name, "namespace": "default",
				"labels": object{"kubernetes.io/service-name": s.name},
			}, object{
				"addressType": f.String(),
				"ports":       []object{{"name": "p", "protocol": "TCP", "port": s.port}},
				"endpoints": []object{{
					"addresses":  []string{s.endpoint(f)},
					"nodeName":   fmt.Sprintf("node%d", s.node),
					"conditions": object{"ready": true, "serving": true, "terminating": false},
				}},
			})
		}
	}
	add("/apis/networking.k8s.io/v1/servicecidrs", "networking.k8s.io/v1", "ServiceCIDR",
		object{"name": "kubernetes"}, object{"spec": object{"cidrs": both(family.services)}})
	return all
}

func both(addr func(family) string) []string { return []string{addr(ipv4), addr(ipv6)} }

// object is the Service's spec and status.
func (s service) object() object {
	clusterIPs := both(func(f family) string { return f.clusterIP(s.n) })
	port := object{"name": "p", "protocol": "TCP", "port": servicePort, "targetPort": s.port}
	spec := object{
		"type": "ClusterIP", "clusterIP": clusterIPs[0], "clusterIPs": clusterIPs,
		"ipFamilies": []string{"IPv4", "IPv6"}, "ipFamilyPolicy": "RequireDualStack",
		"internalTrafficPolicy": "Cluster", "sessionAffinity": "None", "ports": []object{port},
	}
	if s.inside {
		return object{"spec": spec}
	}
	port["nodePort"] = s.nodePort()
	spec["type"], spec["externalTrafficPolicy"] = "LoadBalancer", "Cluster"
	if s.local {
		spec["externalTrafficPolicy"], spec["healthCheckNodePort"] = "Local", s.healthPort()
	}
	mode := "VIP"
	if s.proxied {
		mode = "Proxy"
	}
	return object{"spec": spec, "status": object{"loadBalancer": object{"ingress": []object{
		{"ip": ipv4.externalIP(s.n), "ipMode": mode}, {"ip": ipv6.externalIP(s.n), "ipMode": mode},
	}}}}
}
