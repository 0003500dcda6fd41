package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/settings"
	"github.com/perrin-mesh/perrin/cmd/perrin/internal/systemd"
)

// serviceFlags are those of service and what is below it.
type serviceFlags struct {
	user   bool
	folder string
	dryRun bool
}

func (a *app) serviceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "service", Short: "Have systemd run the daemon",
		Long: `Write, print or remove the systemd unit that runs ` + "`perrin up`" + `: the system's as root,
your own manager's otherwise. The unit is hardened, and reports when it is ready.`,
		Example: examples("perrin service print", "perrin service install --dry-run", "perrin service install"),
		Args:    cobra.ArbitraryArgs, RunE: helpOrUnknown,
	}
	cmd.AddCommand(
		a.serviceVerb("install", "Write the unit and say how to start it", a.serviceInstall),
		a.serviceVerb("uninstall", "Remove the unit", a.serviceUninstall),
		a.serviceVerb("print", "Print the unit", func(_ *serviceFlags, u systemd.Unit) error {
			_, err := io.WriteString(a.stdout, u.Text())
			return err
		}),
	)
	return cmd
}

func (a *app) serviceVerb(name, short string, do func(*serviceFlags, systemd.Unit) error) *cobra.Command {
	var f serviceFlags
	cmd := &cobra.Command{Use: name, Short: short, Args: noArgs, Example: examples("perrin service "+name, "perrin service "+name+" --user")}
	cmd.Flags().BoolVar(&f.user, "user", os.Geteuid() != 0, "the unit of your own manager, not the system's")
	cmd.Flags().StringVar(&f.folder, "unit-dir", "", "folder of units (default: /etc/systemd/system, or your own)")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be done")
	settings.Register(cmd.Flags(), settings.Find("data"))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		v, err := a.settings(cmd)
		if err != nil {
			return err
		}
		if f.folder == "" {
			f.folder = systemd.Folder(f.user, a.env)
		}
		exec, err := executable()
		if err != nil {
			return err
		}
		data, err := filepath.Abs(v.Text("data"))
		if err != nil {
			return fmt.Errorf("data folder: %w", err)
		}
		return do(&f, systemd.Unit{Exec: exec, User: f.user, Data: data})
	}
	return cmd
}

func systemctl(f *serviceFlags) string {
	if f.user {
		return "systemctl --user"
	}
	return "systemctl"
}

func (a *app) serviceInstall(f *serviceFlags, u systemd.Unit) error {
	if f.dryRun {
		a.note("would write %s:", filepath.Join(f.folder, systemd.UnitName))
		_, err := io.WriteString(a.stdout, u.Text())
		return err
	}
	path, err := u.Install(f.folder)
	if err != nil {
		return serviceError(path, err)
	}
	if _, err := fmt.Fprintln(a.stdout, path); err != nil {
		return err
	}
	if _, err := os.Stat(u.Data); errors.Is(err, fs.ErrNotExist) {
		a.note("first: `perrin init --data %s`, or `perrin join TOKEN --data %s`", u.Data, u.Data)
	}
	a.note("next: `%s daemon-reload && %s enable --now perrin`", systemctl(f), systemctl(f))
	if f.user {
		a.note("to have it run while you are logged out: `loginctl enable-linger`")
	}
	return nil
}

func (a *app) serviceUninstall(f *serviceFlags, _ systemd.Unit) error {
	if f.dryRun {
		a.note("would remove %s", filepath.Join(f.folder, systemd.UnitName))
		return nil
	}
	path, err := systemd.Uninstall(f.folder)
	if err != nil {
		return serviceError(path, err)
	}
	if _, err := fmt.Fprintln(a.stdout, path); err != nil {
		return err
	}
	a.note("next: `%s stop perrin; %s daemon-reload`", systemctl(f), systemctl(f))
	return nil
}

func serviceError(path string, err error) error {
	switch {
	case errors.Is(err, systemd.ErrForeign):
		return failf("move it away first", "%w", err)
	case errors.Is(err, fs.ErrNotExist):
		return &failure{err: fmt.Errorf("there is no unit at %s", path), code: exitNotFound, hint: "`perrin service install` writes one"}
	case errors.Is(err, fs.ErrPermission):
		return &failure{err: fmt.Errorf("this user may not write %s", path), code: exitDenied, hint: "run as root, or give --user for a unit of your own"}
	}
	return err
}
