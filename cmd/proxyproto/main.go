// Proxyproto shows what PROXY protocol headers say, sends them, and serves connections that bring them.
//
//	proxyproto decode [-hex] [-json] [file]      explain a header byte by byte, from stdin or a capture
//	proxyproto send [flags] host:port            connect, send a header, then stdin
//	proxyproto serve [flags] [host:port]         print what each connection brings, and answer it
//
// Each of them tells its flags and some examples with -h.
//
// The exit codes are, for all three:
//
//	0  all is well
//	1  a header is malformed
//	2  the command line or the input makes no sense
//	3  there is no header
//	4  a header is incomplete
//	5  the network failed
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// Exit codes.
const (
	exitOK = iota
	exitMalformed
	exitUsage
	exitNoHeader
	exitIncomplete
	exitNetwork
)

const usage = `Proxyproto shows what PROXY protocol headers say, sends them, and serves connections
that bring them.

  proxyproto decode [flags] [file]       explain a header byte by byte
  proxyproto send [flags] host:port      connect, send a header, then stdin
  proxyproto serve [flags] [host:port]   print what each connection brings, and answer it

Try the three together, in two terminals:

  proxyproto serve 127.0.0.1:8080
  printf 'GET / HTTP/1.0\r\n\r\n' | proxyproto send -source 192.0.2.7 127.0.0.1:8080

Exit codes: 0 all is well, 1 a header is malformed, 2 the command line or the input makes no
sense, 3 there is no header, 4 a header is incomplete, 5 the network failed.

"proxyproto decode -h" and so on tell the flags, with examples.
`

// A command runs with the arguments behind its name.
type command func(args []string, stdin io.Reader, stdout, stderr io.Writer) error

var commands = map[string]command{"decode": decode, "send": send, "serve": serve}

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprintln(stderr, "proxyproto: say what to do: decode, send or serve (-h tells more)")
		return exitUsage
	}
	name := args[0]
	switch name {
	case "-h", "-help", "--help", "help":
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	cmd, ok := commands[name]
	if !ok {
		fmt.Fprintf(stderr, "proxyproto: there is no command %q: decode, send and serve are (-h tells more)\n", name)
		return exitUsage
	}
	err := cmd(args[1:], stdin, stdout, stderr)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	code := exitUsage
	var failed *failure
	if errors.As(err, &failed) {
		code = failed.code
	}
	if text := err.Error(); text != "" {
		fmt.Fprintf(stderr, "proxyproto %s: %s\n", name, strings.TrimPrefix(text, "proxyproto: "))
	}
	return code
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

func networkError(err error) error { return &failure{exitNetwork, err} }

// parseFlags parses a command's arguments. An error says all in one line; -h prints about and
// the flags.
func parseFlags(fs *flag.FlagSet, args []string, stdout io.Writer, about string) error {
	fs.Init(fs.Name(), flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, about, "\nFlags:\n\n")
		fs.SetOutput(stdout)
		fs.PrintDefaults()
	case err != nil:
		err = fmt.Errorf("%w (-h tells the flags)", err)
	}
	return err
}
