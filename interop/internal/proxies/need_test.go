package proxies

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
)

// verdict is a testing.TB that notes how its test would have ended.
type verdict struct {
	testing.TB
	failed, skipped string
}

func (v *verdict) Helper() {}

func (v *verdict) Fatalf(format string, args ...any) {
	v.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (v *verdict) Skipf(format string, args ...any) {
	v.skipped = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func judge(f func(t testing.TB)) *verdict {
	v := &verdict{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(v)
	}()
	<-done
	return v
}

func TestNeedFailsInCIAndSkipsElsewhere(t *testing.T) {
	const absent = "no-such-proxy"
	packages[absent] = "no-such-package"
	t.Cleanup(func() { delete(packages, absent) })
	const says = "no-such-proxy is not installed; on Debian: apt-get install --no-install-recommends no-such-package"
	need := func(t testing.TB) { Need(t, absent) }

	t.Setenv("CI", "true")
	v := judge(need)
	assert.Equal(t, says, v.failed)
	assert.Empty(t, v.skipped)

	t.Setenv("CI", "")
	v = judge(need)
	assert.Equal(t, says, v.skipped)
	assert.Empty(t, v.failed)
}

func TestNeedKnowsThePackageOfEveryProgram(t *testing.T) {
	v := judge(func(t testing.TB) { Need(t, "something-else") })
	assert.Contains(t, v.failed, "something-else")
}
