package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/settings"
	"github.com/perrin-mesh/perrin/cmd/perrin/internal/systemd"
	"github.com/perrin-mesh/perrin/node/api"
)

// daemon returns what does the work behind the verbs of this machine.
func (a *app) daemon() (Daemon, error) {
	if a.Daemon == nil {
		return nil, failf("build the whole binary with `make build`", "this build has no daemon")
	}
	return a.Daemon, nil
}

// settings loads the settings that hold for cmd.
func (a *app) settings(cmd *cobra.Command) (settings.Values, error) {
	v, err := settings.Load(cmd.Flags(), a.env)
	var wrong *settings.Error
	if errors.As(err, &wrong) {
		return nil, &failure{err: wrong, code: exitUsage, hint: wrong.Hint}
	}
	return v, err
}

// logger returns the daemon's logger, on stderr.
func (a *app) logger(v settings.Values) *slog.Logger {
	opt := &slog.HandlerOptions{Level: v.Level()}
	if v.Text("log-format") == "json" {
		return slog.New(slog.NewJSONHandler(a.stderr, opt))
	}
	return slog.New(slog.NewTextHandler(a.stderr, opt))
}

func (a *app) nodeOptions(v settings.Values) NodeOptions {
	return NodeOptions{Data: v.Text("data"), Name: v.Text("name"), Listen: v.List("listen"), Log: a.logger(v)}
}

func (a *app) initCommand() *cobra.Command {
	var up bool
	cmd := &cobra.Command{
		Use: "init", Short: "Found a mesh on this machine",
		Long: `Found a mesh whose first node is this machine: it makes the mesh's keys in the data
folder, and a commented config.yaml. Keep the data folder: it holds the root key.`,
		Example: examples("perrin init", "perrin init --name attic --up", "perrin init --data ~/mesh --socket ~/mesh/api.sock"),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.enter(cmd, up, func(d Daemon, v settings.Values) (*Identity, error) {
				return d.Init(cmd.Context(), InitOptions{NodeOptions: a.nodeOptions(v), CellSize: v.Int("cell-size")})
			})
		},
	}
	cmd.Flags().BoolVar(&up, "up", false, "serve the node at once, as perrin up does")
	settings.Register(cmd.Flags(), settings.Definitions())
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) joinCommand() *cobra.Command {
	var up bool
	cmd := &cobra.Command{
		Use: "join TOKEN", Short: "Join a mesh with an invitation",
		Long: `Join the mesh that TOKEN invites to; ` + "`perrin invite`" + ` on one of its nodes makes
one. The token carries the mesh's addresses and a secret that works once: whoever
has it can join in your place.`,
		Example: examples("perrin join perrin1-... --up", "perrin join $TOKEN --name shed --label zone=attic"),
		Args:    exactly(1, "one TOKEN (`perrin invite` on a node of the mesh makes one)"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.enter(cmd, up, func(d Daemon, v settings.Values) (*Identity, error) {
				return d.Join(cmd.Context(), JoinOptions{NodeOptions: a.nodeOptions(v), Token: strings.TrimSpace(args[0]),
					MDNS: v.Bool("mdns"), Loopback: v.Bool("loopback")})
			})
		},
	}
	cmd.Flags().BoolVar(&up, "up", false, "serve the node at once, as perrin up does")
	settings.Register(cmd.Flags(), settings.Definitions())
	a.jsonFlag(cmd)
	return cmd
}

// enter founds or joins a mesh, writes the settings file and says what is next.
func (a *app) enter(cmd *cobra.Command, up bool, do func(Daemon, settings.Values) (*Identity, error)) error {
	d, err := a.daemon()
	if err != nil {
		return err
	}
	v, err := a.settings(cmd)
	if err != nil {
		return err
	}
	id, err := do(d, v)
	if err != nil {
		return err
	}
	if err := writeSettings(v); err != nil {
		return err
	}
	if id.ClockApart != 0 {
		a.note("this machine's clock and that of the node that let it in differ by %s: set the wrong one right", time.Duration(id.ClockApart).Abs()*time.Second)
	}
	if a.json {
		err = a.printJSON(id)
	} else {
		_, err = fmt.Fprintf(a.stdout, "node  %s (%s)\nmesh  %s\ndata  %s\n", id.Name, id.Node, id.Mesh, id.Data)
	}
	if err != nil || !up {
		if err == nil {
			a.note("next: `perrin up%s`, or `perrin service install` to have it run by systemd", dataFlag(v))
		}
		return err
	}
	return a.up(cmd.Context(), d, v)
}

// dataFlag returns the flag that later verbs need when the data folder is not
// the default.
func dataFlag(v settings.Values) string {
	if v["data"].Source == settings.FromFlag {
		return " --data " + v.Text("data")
	}
	return ""
}

// writeSettings writes the commented file, unless there is one.
func writeSettings(v settings.Values) error {
	path := filepath.Join(v.Text("data"), settings.FileName)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	_, err = f.Write(settings.Template(v))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	return nil
}

func (a *app) upCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "up", Short: "Serve this machine's node",
		Long: `Serve this machine's node until Ctrl-C or SIGTERM: it hands its work over and
leaves. ` + "`perrin init`" + ` or ` + "`perrin join`" + ` comes first. Each setting is a flag, a variable
PERRIN_NAME or a field of config.yaml in the data folder; ` + "`perrin config show`" + ` tells
which holds. Under systemd it reports when it is ready.`,
		Example: examples("perrin up", "perrin up --cores 4 --memory 8GiB --label zone=attic",
			"perrin up --reserve cores=2,memory=4GiB      # keep these for this machine's own programs",
			"perrin up --spare-only --quiet-hours 9-18    # lend only what is idle, and that not in working hours",
			"PERRIN_LOG_LEVEL=debug perrin up"),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := a.daemon()
			if err != nil {
				return err
			}
			v, err := a.settings(cmd)
			if err != nil {
				return err
			}
			return a.up(cmd.Context(), d, v)
		},
	}
	settings.Register(cmd.Flags(), settings.Definitions())
	return cmd
}

func (a *app) up(ctx context.Context, d Daemon, v settings.Values) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	signals, stop := a.interrupts()
	defer stop()
	opt := a.upOptions(v)
	done := make(chan error, 1)
	go func() { done <- d.Up(ctx, opt) }()
	select {
	case err := <-done:
		return err
	case <-signals:
	}
	a.note("leaving the mesh; a second signal ends this at once")
	opt.Stopping()
	cancel()
	select {
	case err := <-done:
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	case sig := <-signals:
		return &failure{err: errors.New("ended before the mesh was left"), code: signalCode(sig)}
	}
}

func (a *app) upOptions(v settings.Values) UpOptions {
	node := a.nodeOptions(v)
	if v["name"].Source == settings.FromDefault {
		node.Name = ""
	}
	cores, memory := v.Reserve("reserve")
	notify := func(states ...string) {
		if err := systemd.Notify(a.env, states...); err != nil {
			node.Log.Warn("the service manager was not told", "error", err)
		}
	}
	return UpOptions{
		NodeOptions: node, Labels: v.Pairs("label"), Socket: v.Text("socket"), SocketMode: v.Mode(),
		Cores: v.Int("cores"), FirstCore: v.Int("first-core"), Memory: v.Size("memory"), CellSize: v.Int("cell-size"),
		KeepCores: cores, KeepMemory: memory, SpareOnly: v.Bool("spare-only"), Quiet: v.Hours("quiet-hours"),
		BlobLimit: v.Size("blob-limit"), LeaseTTL: v.Duration("lease-ttl"),
		MDNS: v.Bool("mdns"), Loopback: v.Bool("loopback"), Pprof: v.Bool("pprof"),
		Version: a.Version, Settings: asSettings(v),
		Ready: sync.OnceFunc(func() {
			a.note("ready; `perrin status` shows the mesh")
			notify(systemd.Ready, systemd.Status("ready"))
		}),
		Stopping: sync.OnceFunc(func() { notify(systemd.Stopping, systemd.Status("leaving the mesh")) }),
	}
}

func asSettings(v settings.Values) []api.Setting {
	var out []api.Setting
	for _, s := range v.Sorted() {
		source := s.Source
		if s.Where != "" {
			source += " " + s.Where
		}
		out = append(out, api.Setting{Name: s.Name, Value: s.Text, Source: source})
	}
	return out
}
