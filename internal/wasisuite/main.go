// Command wasisuite runs the public WASI test suite
// (https://github.com/WebAssembly/wasi-testsuite), or any folder in its format,
// against `perrin run`, and prints which tests pass:
//
//	git clone --branch prod/testsuite-base https://github.com/WebAssembly/wasi-testsuite
//	make wasi SUITE=wasi-testsuite/tests
//	bin/perrin dev --nodes 1 -- go run ./internal/wasisuite wasi-testsuite/tests/c
//
// Each .wasm file is a test, and the .json file beside it says what it is given and
// what it must do (doc/specification.md there). Without a daemon each test makes a
// mesh of one node of its own. The exit code is 1 when a test fails that
// docs/wasi.md does not give a reason for; -all counts those too.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"text/tabwriter"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the command. It returns 0 when every test does as it should, 1 when one
// does not and 2 when none could be run.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("wasisuite", flag.ContinueOnError)
	flags.SetOutput(stderr)
	perrin := flags.String("perrin", "bin/perrin", "the program that runs the tests")
	all := flags.Bool("all", false, "count tests of what is not supported as failures too")
	if flags.Parse(args) != nil {
		return 2
	}
	var cases []testCase
	for _, dir := range flags.Args() {
		found, err := find(dir)
		if err != nil {
			fmt.Fprintln(stderr, "error:", err)
			return 2
		}
		cases = append(cases, found...)
	}
	if len(cases) == 0 {
		fmt.Fprintln(stderr, "error: no .wasm file there\nhint: the suite's branch prod/testsuite-base has them; others have only sources")
		return 2
	}
	return report(ctx, *perrin, cases, *all, stdout)
}

// report runs the cases and prints a line for each and a sum.
func report(ctx context.Context, perrin string, cases []testCase, all bool, stdout io.Writer) int {
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "TEST\tOUTCOME\tWHY")
	var passed, excused, failed int
	for _, c := range cases {
		if ctx.Err() != nil {
			break
		}
		why := c.judge(c.start(ctx, perrin))
		outcome := "pass"
		switch reason := c.unsupported(); {
		case why == "":
			passed++
		case reason != "" && !all:
			outcome, why = "not supported", reason
			excused++
		default:
			outcome = "FAIL"
			failed++
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", c.name, outcome, why)
	}
	if err := table.Flush(); err != nil {
		return 2
	}
	fmt.Fprintf(stdout, "\n%d passed, %d not supported, %d failed\n", passed, excused, failed)
	if failed > 0 || ctx.Err() != nil {
		return 1
	}
	return 0
}
