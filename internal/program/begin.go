package program

import (
	"os/exec"
	"runtime"
	"sync"
)

// Begin starts a command that ends with this process, however that ends where the system can do
// that (Linux). Call wait in place of the command's Wait, once; it takes as long.
func Begin(cmd *exec.Cmd) (wait func() error, err error) {
	dieWithParent(cmd)
	started, done := make(chan error), make(chan struct{})
	go func() {
		// The death signal is tied to the thread that forks: it has to live as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			<-done
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	release := sync.OnceFunc(func() { close(done) })
	return func() error {
		defer release()
		return cmd.Wait()
	}, nil
}
