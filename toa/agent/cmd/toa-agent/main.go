// Command toa-agent attaches the BPF programs that servers with package toa ask for their clients'
// addresses. Run it without arguments for what it can do.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/seed2e8fe8ee/proxyproto/toa/agent"
)

const usage = `Usage: toa-agent attach -read FORMATS [-cgroup DIR] [-dir DIR] [-stay]
       toa-agent status [-cgroup DIR] [-dir DIR]
       toa-agent detach [-dir DIR]

Attach makes the kernel read the TCP option in which a layer 4 load balancer passes on a client's
address, for all servers in a cgroup and below it, and keep it for package toa. What is attached
stays when the command has ended. Attaching again replaces it without a gap. With -stay the command
waits for SIGTERM when it is done, as a container must; that ends nothing but the command.

FORMATS are what your balancers write. Read nothing else, since clients can write it:
%s,
or an option's kind and length: 254/8 (IPv4), 253/20 (IPv6). Separate several by commas.

Attach needs Linux 5.10, CAP_BPF and CAP_NET_ADMIN, and for MPTCP connections Linux 5.19 and
CAP_PERFMON. Status and detach need permission to use the directory, and status CAP_BPF.

The exit code is 0 if all is well, 1 if something failed or nothing is attached, 2 if the arguments
are wrong.

`

const exitFailed, exitUsage = 1, 2

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// A command is its arguments and where it writes.
type command struct {
	cgroup, dir, read string
	stay              bool
	stdout            io.Writer
}

var errUsage = errors.New("wrong arguments")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := command{stdout: stdout}
	fs := flag.NewFlagSet("toa-agent", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprintf(stderr, usage, strings.Join(agent.Balancers(), ", "))
		fs.PrintDefaults()
	}
	fs.StringVar(&c.cgroup, "cgroup", "/sys/fs/cgroup", "`directory` of the cgroup v2 whose servers are covered")
	fs.StringVar(&c.dir, "dir", agent.DefaultDir, "`directory` in a BPF file system to pin the programs in")
	fs.StringVar(&c.read, "read", "", "`formats` to read")
	fs.BoolVar(&c.stay, "stay", false, "wait for SIGTERM when all is attached")
	if len(args) == 0 {
		fs.Usage()
		return exitUsage
	}
	name := args[0]
	do := map[string]func(context.Context) error{
		"attach": c.attach, "status": c.status, "detach": c.detach,
	}[name]
	if do != nil {
		args = args[1:]
	}
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return exitUsage
	}
	err := fmt.Errorf("%w: there is no command %q", errUsage, name)
	if fs.NArg() > 0 && do != nil {
		err = fmt.Errorf("%w: %q after the flags", errUsage, fs.Arg(0))
	} else if do != nil {
		err = do(ctx)
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintln(stderr, "toa-agent:", err)
		return exitUsage
	}
	fmt.Fprintln(stderr, "toa-agent:", err)
	return exitFailed
}

func (c *command) attach(ctx context.Context) error {
	if c.read == "" {
		return fmt.Errorf("%w: -read is missing: what do your balancers write? (%s, or KIND/LENGTH)",
			errUsage, strings.Join(agent.Balancers(), ", "))
	}
	formats, err := agent.ParseFormats(c.read)
	if err != nil {
		return fmt.Errorf("%w: -read: %w", errUsage, err)
	}
	state, err := agent.Attach(agent.Config{Cgroup: c.cgroup, Dir: c.dir, Formats: formats})
	if err != nil {
		return err
	}
	c.show(state)
	if c.stay {
		<-ctx.Done()
	}
	return nil
}

func (c *command) status(context.Context) error {
	state, err := agent.Status(c.dir)
	if err != nil {
		return err
	}
	covered, err := state.Covers(c.cgroup)
	if err != nil {
		return err
	}
	if !covered {
		return fmt.Errorf("%w to %s, but to another cgroup", agent.ErrNotAttached, c.cgroup)
	}
	c.show(state)
	return nil
}

func (c *command) detach(context.Context) error {
	if err := agent.Detach(c.dir); err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "nothing is attached by way of %s\n", c.dir)
	return nil
}

func (c *command) show(state agent.State) {
	fmt.Fprintf(c.stdout, "attached to %s, reads %v\n", c.cgroup, state.Formats)
	if state.MPTCP != nil {
		fmt.Fprintln(c.stdout, "MPTCP connections are not covered:", state.MPTCP)
	}
}
