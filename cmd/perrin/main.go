// Command perrin is the one binary of Perrin: the daemon of a node and
// everything a user types to it.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/perrin-mesh/perrin/workload/shim"
)

func main() {
	shim.Main() // does not return when this process is to be a sandbox's
	// With a handler, a closed stdout is an error that can be acted upon, such
	// as by stopping the workload whose output nobody reads; without, it kills.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	os.Exit(run(context.Background(), built(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run does what args say and returns the exit code. It touches no other
// stream; it reads the environment and the file system.
func run(ctx context.Context, deps parts, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{parts: deps, stdin: stdin, stdout: stdout, stderr: stderr, env: os.Getenv, interrupts: osInterrupts}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	return a.exit(cmd, err)
}

// osInterrupts delivers SIGINT and SIGTERM until the returned function is
// called.
func osInterrupts() (<-chan os.Signal, func()) {
	c := make(chan os.Signal, 4)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM)
	return c, func() { signal.Stop(c) }
}
