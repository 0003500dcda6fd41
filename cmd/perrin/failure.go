package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/node/api"
)

// The exit codes, as `perrin help exit-codes` explains them.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitUnavailable = 4
	exitDenied      = 5
	exitUnchecked   = 6
	exitTimeout     = 124
	exitOwn         = 125
	exitInterrupted = 130
	exitPipe        = 141
	exitTerminated  = 143
)

const exitCodesText = `Exit codes are stable.

  0    done
  1    failed; with map and wait: some tasks failed
  2    the command, a file or a value is wrong, and would be on any mesh
  3    no workload, task or blob of that name
  4    no daemon answers, or the mesh is not ready or busy; trying again may help
  5    this user, the mesh or a quota does not allow it
  6    verify and audit: nothing is wrong, and something could not be checked
  130  interrupted by Ctrl-C (143 by SIGTERM); run and map stop their workload first
  141  nobody reads the output any more

Verbs that answer for a program (run, wait, and dev with a COMMAND) return the
program's own code, and

  124  the program ran longer than its --timeout
  125  Perrin itself failed, or refused before a node tried: a typing error, a file
       that is not here or is no program; so that every other code is the program's
  126  a node could not run the program: a bad module, or not for that machine
  127  the node, or the image, does not have the program
  128+N  the program was ended by signal N; 137 is also: out of memory
  143  the workload was stopped

wait and run on a workload of several tasks, and map, return 0 when all
succeeded and 1 otherwise. map returns 125 when Perrin itself failed.
`

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{Use: "exit-codes", Short: "Exit codes and what they mean", Long: strings.TrimSuffix(exitCodesText, "\n")}
}

// failure is an error with an exit code and what to do about it.
type failure struct {
	err  error
	code int
	hint string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// usagef is a failure of what the user typed.
func usagef(hint, format string, args ...any) error {
	return &failure{err: fmt.Errorf(format, args...), code: exitUsage, hint: hint}
}

// failf is a failure of code exitFailure.
func failf(hint, format string, args ...any) error {
	return &failure{err: fmt.Errorf(format, args...), code: exitFailure, hint: hint}
}

// outcome ends the command with a code and says nothing: it was the program's.
type outcome int

func (o outcome) Error() string { return fmt.Sprintf("exit code %d", int(o)) }

// answersForProgram marks verbs whose exit code is the program's.
const answersForProgram = "answers-for-program"

func isOutcomeVerb(cmd *cobra.Command) bool {
	return cmd != nil && cmd.Annotations[answersForProgram] != ""
}

// exit prints what went wrong and returns the exit code.
func (a *app) exit(cmd *cobra.Command, err error) int {
	var code outcome
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	}
	if errors.Is(err, syscall.EPIPE) && !isOutcomeVerb(cmd) {
		return exitPipe
	}
	message, hint, exit := explain(err)
	for i, line := range strings.Split(message, "\n") {
		if i == 0 {
			line = "error: " + line
		}
		fmt.Fprintln(a.stderr, line)
	}
	if hint != "" {
		fmt.Fprintln(a.stderr, "hint: "+hint)
	}
	if isOutcomeVerb(cmd) && exit != exitInterrupted && exit != exitTerminated {
		return exitOwn
	}
	return exit
}

// explain returns the sentence, the hint and the exit code of an error.
func explain(err error) (message, hint string, code int) {
	var own *failure
	var remote *api.Error
	switch {
	case errors.As(err, &own):
		return err.Error(), own.hint, own.code
	case errors.As(err, &remote):
		return err.Error(), remote.Hint, codeOf(remote.Kind)
	case errors.Is(err, context.Canceled):
		return "interrupted", "", exitInterrupted
	}
	return err.Error(), "", codeOf(api.KindOf(err))
}

func codeOf(kind string) int {
	switch kind {
	case api.Invalid, api.Ambiguous, api.TooLarge:
		return exitUsage
	case api.NotFound:
		return exitNotFound
	case api.Unavailable, api.Busy:
		return exitUnavailable
	case api.Unauthorized, api.Refused:
		return exitDenied
	}
	return exitFailure
}
