// Package kubernetes holds the manifest of toa-agent's DaemonSet. Its tests are a module of their
// own, since they need Kubernetes' API types.
package kubernetes

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func manifest(t *testing.T) *appsv1.DaemonSet {
	t.Helper()
	b, err := os.ReadFile("daemonset.yaml")
	require.NoError(t, err)
	ds := new(appsv1.DaemonSet)
	require.NoError(t, yaml.UnmarshalStrict(b, ds))
	return ds
}

// The manifest has only fields that the API has, the privileges that were measured and no more, and
// refers to what it defines.
func TestManifest(t *testing.T) {
	ds := manifest(t)
	assert.Equal(t, "DaemonSet", ds.Kind)
	assert.Equal(t, "apps/v1", ds.APIVersion)
	assert.Equal(t, ds.Spec.Selector.MatchLabels, ds.Spec.Template.Labels)
	pod := ds.Spec.Template.Spec
	assert.False(t, pod.HostNetwork || pod.HostPID || pod.HostIPC)
	require.Len(t, pod.Containers, 1)
	c := pod.Containers[0]
	assert.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop)
	assert.Equal(t, []corev1.Capability{"BPF", "NET_ADMIN", "PERFMON"}, c.SecurityContext.Capabilities.Add)
	assert.Nil(t, c.SecurityContext.Privileged)
	assert.False(t, *c.SecurityContext.AllowPrivilegeEscalation)
	volumes := map[string]bool{}
	for _, v := range pod.Volumes {
		require.NotNil(t, v.HostPath)
		volumes[v.Name] = true
	}
	for _, m := range c.VolumeMounts {
		assert.True(t, volumes[m.Name], m.Name)
	}
}

// The command takes the manifest's arguments: they get as far as the file systems.
func TestArguments(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "toa-agent")
	build := exec.Command("go", "build", "-o", binary, "./cmd/toa-agent")
	build.Dir = ".."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	c := manifest(t).Spec.Template.Spec.Containers[0]
	for _, args := range [][]string{c.Args, c.ReadinessProbe.Exec.Command[1:]} {
		out, err := exec.Command(binary, args...).CombinedOutput()
		var failed *exec.ExitError
		require.ErrorAs(t, err, &failed)
		assert.Equal(t, 1, failed.ExitCode(), "%s", out)
		assert.Regexp(t, "/cgroup is no directory of cgroup v2|there is no /bpf/toa", string(out))
	}
}
