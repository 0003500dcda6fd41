package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/settings"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// parts are what the command line stands on and does not do itself. A nil one
// is answered with an error that says so.
type parts struct {
	// Embedded starts a one-node mesh for programs of kind in this process; the
	// function ends it.
	Embedded func(ctx context.Context, kind workload.Kind) (api.Backend, func(), error)
	Daemon   Daemon
	// PackTree writes the deterministic archive of a folder.
	PackTree func(ctx context.Context, dir string, w io.Writer) error
	Version  string
	// Socket is where the daemon's socket is when nobody names one; empty is
	// settings.DefaultSocket.
	Socket string
}

// app is one invocation.
type app struct {
	parts
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	env    func(string) string
	// interrupts delivers the signals that ask to stop until the function is called.
	interrupts func() (<-chan os.Signal, func())

	socket string // --socket
	json   bool   // --json
}

// backend is a connection to a mesh.
type backend struct {
	api.Backend
	close    func()
	embedded bool
}

// socketPath returns the socket to dial and whether the user named it.
func (a *app) socketPath() (string, bool) {
	if a.socket != "" {
		return a.socket, true
	}
	if s := a.env("PERRIN_SOCKET"); s != "" {
		return s, true
	}
	if a.Socket != "" {
		return a.Socket, false
	}
	return settings.DefaultSocket(a.env), false
}

// connect dials the daemon.
func (a *app) connect() (*backend, error) {
	socket, _ := a.socketPath()
	c, err := api.Dial(socket)
	if errors.Is(err, api.ErrNoDaemon) {
		return nil, &failure{err: err, code: exitUnavailable,
			hint: "start one with `perrin up` (first `perrin init` or `perrin join`), or name its socket with --socket or PERRIN_SOCKET"}
	}
	if err != nil {
		return nil, err
	}
	return &backend{Backend: c, close: c.Close}, nil
}

// connectOrEmbed dials the daemon, and starts a mesh of one node in this
// process when there is none and the user named no socket, unless it could not
// serve: refuse says why, or is nil.
func (a *app) connectOrEmbed(ctx context.Context, kind workload.Kind, refuse error) (*backend, error) {
	b, err := a.connect()
	if _, named := a.socketPath(); named || !errors.Is(err, api.ErrNoDaemon) {
		return b, err
	}
	if a.Embedded == nil {
		return nil, err
	}
	if refuse != nil {
		return nil, refuse
	}
	a.note("no daemon is running: using a mesh of one node inside this command; its results last as long as the command")
	own, end, err := a.Embedded(ctx, kind)
	if err != nil {
		return nil, fmt.Errorf("start a mesh of one node: %w", err)
	}
	return &backend{Backend: own, close: end, embedded: true}, nil
}

// withBackend runs do with a connection to the daemon.
func (a *app) withBackend(do func(*backend) error) error {
	b, err := a.connect()
	if err != nil {
		return err
	}
	defer b.close()
	return do(b)
}

// withWorkload runs do with the workload that text names.
func (a *app) withWorkload(ctx context.Context, text string, do func(*backend, workload.ID) error) error {
	return a.withBackend(func(b *backend) error {
		id, err := b.Resolve(ctx, text)
		if err != nil {
			return err
		}
		return do(b, id)
	})
}

// note prints one line for the user on stderr.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(a.stderr, "perrin: "+format+"\n", args...)
}

// printJSON prints v on stdout, indented.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// list prints v as JSON when --json is given and calls text otherwise. A nil
// list is printed as an empty one.
func show[T any](a *app, v T, text func(T) error) error {
	if a.json {
		return a.printJSON(v)
	}
	return text(v)
}

// jsonFlag adds --json.
func (a *app) jsonFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
}

// examples indents the lines of an example text.
func examples(lines ...string) string { return "  " + strings.Join(lines, "\n  ") }

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "perrin",
		Short: "Run programs on whichever of your machines is idle and cheapest",
		Long: `Perrin is a peer-to-peer compute mesh: one binary on each machine, no server.
It runs your program isolated on an idle machine that the mesh agreed on by
auction, survives the death of any of them, and tells you why each task ran
where it did.`,
		Example: examples(
			"perrin run -- echo hi                    # works at once, without a daemon",
			"perrin init && perrin up                 # found a mesh on this machine",
			"perrin invite                            # a token for the next machine",
			"perrin map render.wasm -- frames/*       # one task for each file",
			"perrin status                            # the mesh at a glance"),
		SilenceErrors: true, SilenceUsage: true, SuggestionsMinimumDistance: 2,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownVerb(cmd, args[0])
			}
			return cmd.Help()
		},
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.PersistentFlags().StringVar(&a.socket, "socket", "", "API socket of the daemon (default $PERRIN_SOCKET, else "+settings.SocketHelp+")")
	root.SetFlagErrorFunc(flagError)
	a.addVerbs(root)
	root.SetHelpCommand(helpCommand())
	return root
}

// helpCommand is cobra's help, with an error for a verb that there is not.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [VERB]", Short: "Help about a verb", Example: examples("perrin help run", "perrin help exit-codes"),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownVerb(cmd.Root(), args[0])
			}
			return found.Help()
		},
	}
}

func (a *app) addVerbs(root *cobra.Command) {
	root.AddGroup(
		&cobra.Group{ID: "work", Title: "Work:"},
		&cobra.Group{ID: "mesh", Title: "The mesh:"},
		&cobra.Group{ID: "daemon", Title: "This machine:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("work", a.runCommand(), a.mapCommand(), a.submitCommand(), a.psCommand(), a.inspectCommand(), a.logsCommand(),
		a.waitCommand(), a.stopCommand(), a.whyCommand(), a.specCommand(),
		a.receiptCommand(), a.verifyCommand())
	add("mesh", a.statusCommand(), a.nodesCommand(), a.attestCommand(), a.auditCommand(), a.inviteCommand(), a.drainCommand(),
		a.trustCommand(), a.operatorCommand(), a.denyCommand(), a.tokenCommand(), a.quotaCommand())
	add("work", a.simCommand())
	add("daemon", a.initCommand(), a.joinCommand(), a.upCommand(), a.rotateKeyCommand(), a.devCommand(), a.configCommand(), a.serviceCommand(),
		a.versionCommand(), a.completionCommand())
	root.AddCommand(exitCodesTopic())
}

func unknownVerb(cmd *cobra.Command, word string) error {
	hint := "`perrin --help` lists the verbs"
	if near := cmd.SuggestionsFor(word); len(near) > 0 {
		hint = "did you mean `perrin " + near[0] + "`?"
	} else {
		hint += "; to run a program: `perrin run -- " + word + "`"
	}
	return &failure{err: fmt.Errorf("perrin has no verb %.40q", word), code: exitUsage, hint: hint}
}

func flagError(cmd *cobra.Command, err error) error {
	var wrong *pflag.InvalidValueError
	if errors.As(err, &wrong) && (strings.Contains(wrong.GetFlag().Value.Type(), "int") || wrong.GetFlag().Value.Type() == "count") {
		err = fmt.Errorf("--%s: want a whole number, got %.80q", wrong.GetFlag().Name, wrong.GetValue())
	}
	var none *pflag.NotExistError
	if errors.As(err, &none) && none.GetSpecifiedShortnames() != "" && none.GetSpecifiedShortnames()[0] >= '0' && none.GetSpecifiedShortnames()[0] <= '9' {
		// A flag whose value may be left out, such as --spare, does not take the next word.
		err = fmt.Errorf("-%.20s: want a number that is not below 0", none.GetSpecifiedShortnames())
		if f := cmd.Flags().Lookup("spare"); f != nil && f.Changed {
			err = fmt.Errorf("--spare: want 1 to %d, got -%.20s", workload.MaxCPUs, none.GetSpecifiedShortnames())
		}
	}
	return &failure{err: err, code: exitUsage, hint: "see `" + cmd.CommandPath() + " --help`"}
}

// exactly wants n arguments and says what they are.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return usagef("see `"+cmd.CommandPath()+" --help`", "%s: want %s, got %d arguments", cmd.Name(), what, len(args))
	}
}

// atMostOne wants no argument or one.
func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) <= 1 {
		return nil
	}
	return usagef("see `"+cmd.CommandPath()+" --help`", "%s: want one argument at most, got %d", cmd.Name(), len(args))
}

// oneOrTwo wants one argument or two.
func oneOrTwo(cmd *cobra.Command, args []string) error {
	if n := len(args); n == 1 || n == 2 {
		return nil
	}
	return usagef("see `"+cmd.CommandPath()+" --help`", "%s: want one argument or two, got %d", cmd.Name(), len(args))
}

// noArgs wants no arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usagef("see `"+cmd.CommandPath()+" --help`", "%s takes no arguments, got %.40q", cmd.Name(), args[0])
}

// age returns how long ago t was.
func age(t time.Time) time.Duration { return time.Since(t).Round(time.Second) }
