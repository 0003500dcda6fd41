package systemd

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// UnitName is the name of the unit.
const UnitName = "perrin.service"

// mark is the first line of every unit that we write; another is not ours to
// change or remove.
const mark = "# Written by `perrin service install`."

// ErrForeign is returned when a unit of that name exists that we did not write.
var ErrForeign = errors.New("a unit of that name exists that perrin did not write")

// Unit describes a service.
type Unit struct {
	Exec string   // absolute path of the binary
	Args []string // after `up`
	User bool     // of a user's own manager, not the system's
	Data string   // absolute path of the data folder
}

// Folder returns where units of that manager are.
func Folder(user bool, env func(string) string) string {
	if !user {
		return "/etc/systemd/system"
	}
	if dir := env("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "systemd", "user")
	}
	return filepath.Join(env("HOME"), ".config", "systemd", "user")
}

// Text returns the unit file. It is hardened as far as a program allows that
// itself makes namespaces, cgroups and mounts for what it runs, and compiles
// WebAssembly: the rest (kernel tunables hidden, no executable memory made at
// run time, no namespaces) would break the sandboxes.
func (u Unit) Text() string {
	var b strings.Builder
	p := func(lines ...string) { b.WriteString(strings.Join(lines, "\n") + "\n") }
	p(mark,
		"[Unit]",
		"Description=Perrin compute mesh node",
		"Documentation=https://github.com/perrin-mesh/perrin",
		"Wants=network-online.target",
		"After=network-online.target time-sync.target",
		"",
		"[Service]",
		"Type=notify",
		"NotifyAccess=main",
		"ExecStart="+quote(append([]string{u.Exec, "up", "--data", u.Data}, u.Args...)),
		"Restart=on-failure",
		"RestartSec=2s",
		"TimeoutStartSec=120s",
		"TimeoutStopSec=60s",
		"# The daemon ends its attempts itself; what is left after it is ended too.",
		"KillMode=mixed",
		"# It makes a cgroup for each attempt below its own.",
		"Delegate=yes",
		"LimitNOFILE=65536",
		"TasksMax=infinity",
		"UMask=0077")
	if !u.User {
		p(u.system()...)
	}
	p("LockPersonality=yes",
		"RestrictRealtime=yes",
		"RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
		"SystemCallArchitectures=native",
		"",
		"[Install]",
		"WantedBy="+map[bool]string{true: "default.target", false: "multi-user.target"}[u.User])
	return b.String()
}

func (u Unit) system() []string {
	return []string{
		"RuntimeDirectory=perrin",
		"RuntimeDirectoryMode=0755",
		"ProtectSystem=strict",
		"ReadWritePaths=-" + strings.ReplaceAll(u.Data, "%", "%%"),
		"ProtectHome=" + map[bool]string{true: "no", false: "yes"}[inHome(u.Data)],
		"PrivateTmp=yes",
		"ProtectClock=yes",
		"ProtectKernelModules=yes",
		"CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SETUID CAP_SETGID CAP_SETPCAP CAP_SETFCAP CAP_CHOWN CAP_DAC_OVERRIDE " +
			"CAP_FOWNER CAP_KILL CAP_MKNOD CAP_SYS_CHROOT CAP_NET_ADMIN CAP_NET_BIND_SERVICE CAP_SYS_PTRACE CAP_SYS_RESOURCE CAP_SYS_NICE",
	}
}

// inHome reports whether path is in a folder that ProtectHome would hide.
func inHome(path string) bool {
	for _, dir := range []string{"/home", "/root", "/run/user"} {
		if path == dir || strings.HasPrefix(path, dir+"/") {
			return true
		}
	}
	return false
}

// quote joins words as systemd splits them.
func quote(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = escape(w)
	}
	return strings.Join(out, " ")
}

func escape(w string) string {
	w = strings.NewReplacer("%", "%%", "$", "$$", `\`, `\\`, `"`, `\"`).Replace(w)
	if strings.ContainsAny(w, " \t'") || strings.Contains(w, `\"`) {
		return `"` + w + `"`
	}
	return w
}

// Install writes the unit into folder and returns its path. It replaces one
// that we wrote before and refuses, with ErrForeign, any other.
func (u Unit) Install(folder string) (string, error) {
	path := filepath.Join(folder, UnitName)
	if err := ours(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return path, fmt.Errorf("make the folder of units: %w", err)
	}
	stage := path + ".new"
	if err := os.WriteFile(stage, []byte(u.Text()), 0o644); err != nil {
		return path, fmt.Errorf("write the unit: %w", err)
	}
	if err := os.Rename(stage, path); err != nil {
		return path, errors.Join(fmt.Errorf("write the unit: %w", err), os.Remove(stage))
	}
	return path, nil
}

// Uninstall removes the unit from folder and returns its path. The error wraps
// fs.ErrNotExist when there is none, and ErrForeign when it is not ours.
func Uninstall(folder string) (string, error) {
	path := filepath.Join(folder, UnitName)
	if err := ours(path); err != nil {
		return path, err
	}
	if err := os.Remove(path); err != nil {
		return path, fmt.Errorf("remove the unit: %w", err)
	}
	return path, nil
}

func ours(path string) error {
	data, err := os.ReadFile(path)
	switch {
	case err != nil:
		return fmt.Errorf("read the unit: %w", err)
	case !bytes.HasPrefix(data, []byte(mark)):
		return fmt.Errorf("%s: %w", path, ErrForeign)
	}
	return nil
}
