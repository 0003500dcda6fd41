package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/settings"
	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload/specfile"
)

func (a *app) inviteCommand() *cobra.Command {
	var uses int
	var ttl string
	cmd := &cobra.Command{
		Use: "invite", Short: "Make a token that lets machines join",
		Long:    "Make a token for `perrin join`. Whoever has it can join, as often as --uses says,\nuntil --ttl has passed: hand it over as you would a password.",
		Example: examples("perrin invite", "perrin invite --uses 5 --ttl 30m", "ssh shed perrin join $(perrin invite) --up"),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := specfile.ParseDuration(ttl)
			if err != nil || d <= 0 || d > 30*24*time.Hour {
				return usagef("write a time such as 1h", "--ttl: want more than 0 and at most 30 days, got %.40q", ttl)
			}
			if uses < 1 || uses > 1000 {
				return usagef("perrin invite --uses 5", "--uses: want 1 to 1000, got %d", uses)
			}
			return a.withBackend(func(b *backend) error {
				inv, err := b.Invite(cmd.Context(), uses, d)
				if err != nil {
					return err
				}
				return show(a, inv, a.printInvitation)
			})
		},
	}
	cmd.Flags().IntVar(&uses, "uses", 1, "machines that may join with it")
	cmd.Flags().StringVar(&ttl, "ttl", "1h", "how long it works")
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) printInvitation(inv *api.Invitation) error {
	a.note("for %s, until %s; on the other machine: perrin join TOKEN --up",
		terminal.Plural(inv.Uses, "machine"), inv.Expires.Local().Format("2006-01-02 15:04"))
	_, err := fmt.Fprintln(a.stdout, inv.Token)
	return err
}

func (a *app) drainCommand() *cobra.Command {
	return &cobra.Command{
		Use: "drain", Short: "Stop taking work on this node and wait for what runs",
		Long:    "Stop taking work on this machine's node, hand leadership over and wait until what\nruns here has ended. `perrin up` takes work again after a restart.",
		Example: examples("perrin drain && systemctl stop perrin"),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withBackend(func(b *backend) error {
				a.note("draining; this returns when nothing runs here any more")
				return b.Drain(cmd.Context())
			})
		},
	}
}

// devFlags are those of dev.
type devFlags struct {
	nodes    int
	cellSize int
	cores    int
	memory   string
	data     string
	logLevel string
}

func (a *app) devCommand() *cobra.Command {
	var f devFlags
	cmd := &cobra.Command{
		Use: "dev [flags] [-- COMMAND...]", Short: "Run a mesh of several nodes on this machine",
		Long: `Run a mesh of several daemons on this machine, each a process with a data folder of
its own, over loopback. They share the machine, so each offers a declared
capacity, and one user, so all have one owner and one operator: tokens, quotas and
work of different operators need real nodes (perrin init, invite and join, with a
--data of their own). With COMMAND it waits until the mesh is ready, runs COMMAND with
PERRIN_SOCKET set to a node's socket, stops everything and returns COMMAND's exit
code; without, it stays until Ctrl-C.`,
		Example: examples(
			"perrin dev --nodes 5",
			"perrin dev --nodes 3 -- perrin run -- echo hi",
			"perrin dev --nodes 10 --cell-size 5 -- sh -c 'perrin status; perrin nodes'"),
		Args:        cobra.ArbitraryArgs,
		Annotations: map[string]string{answersForProgram: "yes"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.dev(cmd.Context(), &f, args)
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.IntVarP(&f.nodes, "nodes", "n", 3, "daemons, 1 to 64")
	fl.IntVar(&f.cellSize, "cell-size", 64, "nodes in a cell at most")
	fl.IntVar(&f.cores, "cores", 1, "cores that each declares")
	fl.StringVar(&f.memory, "memory", "1GiB", "memory that each declares")
	fl.StringVar(&f.data, "data", "", "folder to keep (default: a temporary one, removed at the end)")
	fl.StringVar(&f.logLevel, "log-level", "warn", "debug, info, warn or error")
	fl.SetInterspersed(false)
	return cmd
}

func (a *app) dev(ctx context.Context, f *devFlags, command []string) error {
	d, err := a.daemon()
	if err != nil {
		return err
	}
	opt, err := a.devOptions(f)
	if err != nil {
		return err
	}
	opt.Command = command
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	signals, stop := a.interrupts()
	defer stop()
	go func() {
		select {
		case <-signals:
			cancel()
		case <-ctx.Done():
		}
	}()
	opt.Ready = func(m DevMesh) { a.announce(m, f, len(command) > 0) }
	code, err := d.Dev(ctx, opt)
	if err != nil && !(ctx.Err() != nil && len(command) == 0) {
		return err
	}
	if code != 0 {
		return outcome(code)
	}
	return nil
}

func (a *app) devOptions(f *devFlags) (DevOptions, error) {
	opt := DevOptions{Nodes: f.nodes, CellSize: f.cellSize, Cores: f.cores, Data: f.data, Stdin: a.stdin, Stdout: a.stdout, Stderr: a.stderr}
	var err error
	switch opt.Memory, err = specfile.ParseSize(f.memory); {
	case err != nil:
		return opt, usagef("", "--memory: %w", err)
	case f.nodes < 1 || f.nodes > 64:
		return opt, usagef("perrin dev --nodes 5", "--nodes: want 1 to 64, got %d", f.nodes)
	case f.cellSize < 1 || f.cellSize > 128:
		return opt, usagef("perrin dev --nodes 10 --cell-size 5", "--cell-size: want 1 to 128, got %d", f.cellSize)
	case f.cores < 1 || f.cores > 4096:
		return opt, usagef("", "--cores: want 1 to 4096, got %d", f.cores)
	case opt.Memory < 64<<20:
		return opt, usagef("", "--memory: want 64 MiB or more, got %s", f.memory)
	}
	if err := opt.LogLevel.UnmarshalText([]byte(f.logLevel)); err != nil {
		return opt, usagef("", "--log-level: want debug, info, warn or error, got %.40q", f.logLevel)
	}
	return opt, nil
}

// announce says that the mesh is ready and how to talk to it.
func (a *app) announce(m DevMesh, f *devFlags, command bool) {
	a.note("a mesh of %s is ready in %s", terminal.Plural(f.nodes, "node"), m.Data)
	if command || len(m.Sockets) == 0 {
		return
	}
	fmt.Fprintf(a.stderr, "\n  export PERRIN_SOCKET=%s\n  perrin status\n  perrin run -- echo hi\n\n", m.Sockets[0])
	a.note("Ctrl-C stops it")
}

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Show the settings of the daemon",
		Example: examples("perrin config show"), Args: cobra.ArbitraryArgs, RunE: helpOrUnknown,
	}
	sub := &cobra.Command{
		Use: "show", Short: "Print every setting, its value and where it comes from",
		Long: `Print every setting with its value and where that comes from: a flag, a variable
PERRIN_NAME, config.yaml in the data folder, or the default. With a daemon running
these are the values it runs with; without one, with --local or with a setting's
flag, those that
` + "`perrin up`" + ` would run with from here.`,
		Example: examples("perrin config show", "perrin config show --local --data ~/mesh", "perrin config show --json"),
		Args:    noArgs,
	}
	local := sub.Flags().Bool("local", false, "do not ask the daemon")
	settings.Register(sub.Flags(), settings.Definitions())
	sub.RunE = func(cmd *cobra.Command, _ []string) error { return a.configShow(cmd, *local) }
	a.jsonFlag(sub)
	cmd.AddCommand(sub)
	return cmd
}

func (a *app) configShow(cmd *cobra.Command, local bool) error {
	var list []api.Setting
	for _, d := range settings.Definitions() {
		local = local || d.Name != "socket" && cmd.Flags().Changed(d.Name)
	}
	if b, err := a.connect(); err == nil && !local {
		list = b.Config()
		b.close()
	}
	if list == nil {
		v, err := a.settings(cmd)
		if err != nil {
			return err
		}
		list = asSettings(v)
	}
	return show(a, list, func(list []api.Setting) error {
		t := terminal.NewTable("SETTING", "VALUE", "FROM")
		for _, s := range list {
			t.Row(s.Name, orElse(s.Value, "-"), s.Source)
		}
		return t.Write(a.stdout)
	})
}

// versionInfo is what version prints as JSON.
type versionInfo struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func (a *app) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version of this binary", Args: noArgs,
		Example: examples("perrin version", "perrin version --json"),
		RunE: func(*cobra.Command, []string) error {
			return show(a, versionInfo{a.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH}, func(v versionInfo) error {
				_, err := fmt.Fprintf(a.stdout, "perrin %s (%s, %s/%s)\n", v.Version, v.Go, v.OS, v.Arch)
				return err
			})
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

// oneOf has the shell complete the values of a flag.
func oneOf(cmd *cobra.Command, flag string, values []string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // there is no such flag
	}
}

func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "completion bash|zsh|fish", Short: "Print a shell's completion script",
		Long: "Print the script that makes a shell complete verbs, flags and, when a daemon\nanswers, the IDs of workloads. That of bash needs the package bash-completion.",
		Example: examples(
			"perrin completion bash > /etc/bash_completion.d/perrin",
			"perrin completion zsh > \"${fpath[1]}/_perrin\"",
			"perrin completion fish > ~/.config/fish/completions/perrin.fish"),
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args:      exactly(1, "one of bash, zsh and fish"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.stdout, true)
			case "zsh":
				return root.GenZshCompletion(a.stdout)
			case "fish":
				return root.GenFishCompletion(a.stdout, true)
			}
			return usagef("perrin completion bash", "completion: want bash, zsh or fish, got %.40q", args[0])
		},
	}
}

// executable returns the absolute path of this binary.
func executable() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this binary: %w", err)
	}
	return strings.TrimSuffix(path, " (deleted)"), nil
}
