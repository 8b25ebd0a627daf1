// Proxyproto shows what PROXY protocol headers say, sends them, serves connections that bring
// them, and checks what a server does with them. "proxyproto help" explains it.
package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// Exit codes.
const (
	exitOK = iota
	exitMalformed
	exitUsage
	exitNoHeader
	exitIncomplete
	exitNetwork
	exitEmpty
)

const about = `Proxyproto shows what PROXY protocol headers say, sends them, serves connections that
bring them, and checks what a server does with them.

Try serve and send together, in two terminals:

    proxyproto serve 127.0.0.1:8080
    proxyproto send --source 192.0.2.7 http://127.0.0.1:8080/

The exit code is 0 if all is well, 1 if a header is malformed or a rule is broken, 2 if the command
line or the input makes no sense, 3 if there is no header, 4 if a header is incomplete or something
can't be known, 5 if the network failed, 6 if the server closed without an answer.`

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "proxyproto",
		Short:         "Show, send, serve and check PROXY protocol headers",
		Long:          about,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("there is no command %q: see proxyproto help", args[0])
			}
			return errors.New("say what to do: decode, send, serve or check (see proxyproto help)")
		},
	}
	root.SetVersionTemplate("proxyproto {{.Version}}\n")
	root.AddCommand(newDecode(), newSend(), newServe(), newCheck(), newMan(), &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintln(cmd.OutOrStdout(), "proxyproto", version())
		},
	})
	return root
}

func newMan() *cobra.Command {
	return &cobra.Command{
		Use:   "man [command]",
		Short: "Print a manual page, for man -l -",
		Long: "Man prints the manual page of proxyproto or of one of its commands, made of the " +
			"same text as its help.",
		Example: `  proxyproto man | man -l -
  proxyproto man decode >/usr/local/share/man/man1/proxyproto-decode.1`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			page, _, err := cmd.Root().Find(args)
			if err != nil || len(args) > 0 && page == cmd.Root() {
				return fmt.Errorf("there is no command %q", args[0])
			}
			return doc.GenMan(page, &doc.GenManHeader{Section: "1",
				Source: "proxyproto " + version()}, cmd.OutOrStdout())
		},
	}
}

// version returns the version that the program was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return cmp.Or(info.Main.Version, "(devel)") + " " + info.GoVersion
}

// run runs the command that the arguments name, and returns its exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	name := root.Name()
	err := dashed(root, args)
	if err == nil {
		var ran *cobra.Command
		ran, err = root.ExecuteC()
		name = ran.CommandPath()
	}
	if err == nil {
		return exitOK
	}
	code := exitUsage
	if failed := new(failure); errors.As(err, &failed) {
		code = failed.code
	}
	if text := err.Error(); text != "" {
		fmt.Fprintf(stderr, "%s: %s\n", name, printable(strings.TrimPrefix(text, "proxyproto: ")))
	}
	return code
}

var oneDash = regexp.MustCompile(`^-([a-z][a-z0-9-]+)(=.*)?$`)

// dashed reports a long flag with a single dash, which would be read as some short ones: of -hex
// the -h asks for help.
func dashed(root *cobra.Command, args []string) error {
	cmd, _, err := root.Find(args)
	if err != nil {
		return nil
	}
	for _, arg := range args {
		if arg == "--" {
			break
		}
		if m := oneDash.FindStringSubmatch(arg); m != nil && cmd.Flags().Lookup(m[1]) != nil {
			return fmt.Errorf("flags have two dashes: --%s", m[1])
		}
	}
	return nil
}

// failure is an error with an exit code of its own; others are the user's mistakes.
type failure struct {
	code int
	err  error // nil if all has been said
}

func (f *failure) Error() string {
	if f.err == nil {
		return ""
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

func exit(code int) error {
	if code == exitOK {
		return nil
	}
	return &failure{code: code}
}
