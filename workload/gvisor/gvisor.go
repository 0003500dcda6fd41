// Package gvisor has a program run by gVisor, a kernel in user space: its system
// calls are answered by runsc's sentry, which makes few of its own, so a hole in
// the machine's kernel is out of its reach. runsc is a program of this machine
// that nobody ships; it runs in a sandbox of workload/sandbox itself, as a user
// that owns nothing, in the slot's cgroups, and what it starts ends with it.
package gvisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/sandbox"
)

// What runsc takes for itself beside its program, measured with release 20221219
// (17 to 26 MiB) and rounded up: three Go programs with their threads, of which two
// share most, and a stub process for each address space.
const (
	Memory = 64 << 20 // bytes
	Pids   = 192
)

// Runtime is this machine's runsc. It is immutable.
type Runtime struct {
	path  string
	flags []string
}

// maxHelp bounds what is read of runsc's words about itself, in bytes, and
// helpWithin how long it may take.
const (
	maxHelp    = 256 << 10
	helpWithin = 15 * time.Second
)

// Find looks for runsc under /usr, which every sandbox shows, and asks which flags
// it knows. The error wraps runner.ErrUnavailable.
func Find(ctx context.Context) (*Runtime, error) {
	for _, dir := range []string{"/usr/local/bin", "/usr/bin", "/usr/local/sbin", "/usr/sbin"} {
		file := filepath.Join(dir, "runsc")
		if real, err := filepath.EvalSymlinks(file); err != nil || !strings.HasPrefix(real, "/usr/") {
			continue
		}
		if _, err := exec.LookPath(file); err == nil {
			return ask(ctx, file)
		}
	}
	return nil, fmt.Errorf("no runsc: install gVisor (Debian: runsc) under /usr/bin: %w", runner.ErrUnavailable)
}

func ask(ctx context.Context, file string) (*Runtime, error) {
	ctx, cancel := context.WithTimeout(ctx, helpWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, file, "flags")
	cmd.Env, cmd.Dir = []string{}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said limited
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s does not run: %w: %w", file, err, runner.ErrUnavailable)
	}
	r := &Runtime{path: file}
	if r.flags = flagsOf(said.String()); r.flags == nil {
		return nil, fmt.Errorf("%s is too old: it opens no sockets of the host (want release 20221219 or later): %w", file, runner.ErrUnavailable)
	}
	return r, nil
}

// limited keeps the first maxHelp bytes.
type limited struct{ strings.Builder }

func (l *limited) Write(b []byte) (int, error) {
	l.Builder.Write(b[:min(len(b), maxHelp-l.Len())])
	return len(b), nil
}

// flagsOf returns the flags of every start, by what `runsc flags` says of those
// there are; nil when one is missing that must be there.
func flagsOf(help string) []string {
	known := func(name string) bool { return strings.Contains(help, " -"+name) }
	if !known("host-uds") || !known("rootless") {
		return nil
	}
	// The changes of a root go to the folder that the node gave it, where they are
	// counted. Of the ways to look at files the default alone tells a program that it
	// cannot truncate one of its inputs; with "shared" it hears that it did.
	flags := []string{"--rootless", "--network=none", "--ignore-cgroups", "--host-uds=open", "--root=" + stateDir, fmt.Sprintf("--log-fd=%d", logFD)}
	if known("overlay2") {
		flags = append(flags, "--overlay2=none")
	}
	if known("directfs") { // the sentry itself would open files of the host
		flags = append(flags, "--directfs=false")
	}
	return flags
}

// Where runsc finds its own in its sandbox.
const (
	bundleDir = "/perrin/bundle"
	stateDir  = "/tmp/runsc"
	logFD     = 3 // the first of sandbox.Program.Keep
	logName   = "runsc.log"
)

// Start is one start of a program under runsc.
type Start struct {
	Program sandbox.Program // what to start in a sandbox
	what    string          // is to run in gVisor
	log     *os.File
}

// Wrap returns the start of what p, with a Root, names: runsc, with p's program in
// its configuration, which is written to dir, an empty folder of the host. In
// gVisor the program is user 0 without any capability: of the machine's users there
// is but one to be had. disk bounds the bytes of one file, 0 is no bound. The caller closes the start.
func (r *Runtime) Wrap(p sandbox.Program, dir string, disk int64) (*Start, error) {
	bundle := filepath.Join(dir, "bundle")
	raw, err := json.Marshal(configOf(p, disk))
	if err == nil {
		err = errors.Join(os.Mkdir(bundle, 0o755), os.Chmod(bundle, 0o755), os.WriteFile(filepath.Join(bundle, "config.json"), raw, 0o644))
	}
	if err != nil {
		return nil, fmt.Errorf("gvisor: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(dir, logName), os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("gvisor: %w", err)
	}
	p.Mounts = append(p.Mounts[:len(p.Mounts):len(p.Mounts)], sandbox.Mount{Source: bundle, Target: bundleDir, Aside: true})
	what := p.Path
	if len(p.Args) > 0 {
		what = p.Args[0]
	}
	p.Runtime, p.User, p.Search, p.Keep = true, &sandbox.User{}, nil, []*os.File{log}
	p.Path = r.path
	p.Args = append(append([]string{"runsc"}, r.flags...), "run", "--bundle="+bundleDir, "attempt")
	p.Env = []string{"PATH=/usr/bin:/bin", "TMPDIR=/tmp"}
	return &Start{Program: p, what: what, log: log}, nil
}

// Close lets go of the start's log; of none it does nothing.
func (s *Start) Close() {
	if s != nil {
		s.log.Close()
	}
}

// errCode is how runsc ends when it could not run the program, which a program may
// end with too; then nothing is in the log.
const errCode = 128

// Codes of a program that is not there and of one that cannot be executed, as shells have them.
const (
	codeNotFound      = 127
	codeNotExecutable = 126
)

// maxLog bounds what is read of the log, in bytes.
const maxLog = 16 << 10

// End tells how the program ended by how runsc did: a signal is told as 128 and
// its number, as by a shell, so that a program which exits with such a code counts
// as killed by that signal. why is set when the program could not be executed. The
// error is runsc's own failure.
func (s *Start) End(e sandbox.End) (end sandbox.End, why string, err error) {
	if e.Signal != 0 || e.Broken {
		return e, "", nil
	}
	if e.Code == errCode {
		if said := s.said(); said != "" {
			return s.failed(e, said)
		}
	}
	if n := e.Code - errCode; n > 0 && n <= 64 {
		e.Code, e.Signal = 0, syscall.Signal(n)
	}
	return e, "", nil
}

func (s *Start) failed(e sandbox.End, said string) (sandbox.End, string, error) {
	e.Code = codeNotFound
	why := unix.ENOENT
	switch {
	case strings.Contains(said, unix.ENOENT.Error()), strings.Contains(said, "error finding executable"):
	case strings.Contains(said, unix.ENOEXEC.Error()):
		e.Code, why = codeNotExecutable, unix.ENOEXEC
	case strings.Contains(said, unix.EACCES.Error()):
		e.Code, why = codeNotExecutable, unix.EACCES
	default:
		return e, "", fmt.Errorf("runsc: %.300s", said)
	}
	return e, fmt.Sprintf("cannot execute %.200q: %s", s.what, why), nil
}

// said is the message of the last line that runsc has logged.
func (s *Start) said() string {
	b, err := io.ReadAll(io.NewSectionReader(s.log, 0, maxLog))
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if err != nil {
		return ""
	}
	last := lines[len(lines)-1]
	var logged struct {
		Message string `json:"msg"`
	}
	if json.Unmarshal([]byte(last), &logged) == nil && logged.Message != "" {
		return logged.Message
	}
	return last
}

// config is what runsc reads of a bundle (OCI runtime-spec 1.0.2).
type config struct {
	Version string  `json:"ociVersion"`
	Process process `json:"process"`
	Root    root    `json:"root"`
	Host    string  `json:"hostname"`
	Mounts  []mount `json:"mounts"`
	Linux   linux   `json:"linux"`
}

type process struct {
	User         struct{ UID, GID int } `json:"user"`
	Args         []string               `json:"args"`
	Env          []string               `json:"env"`
	Dir          string                 `json:"cwd"`
	Capabilities struct{}               `json:"capabilities"`
	NoNew        bool                   `json:"noNewPrivileges"`
	Limits       []limit                `json:"rlimits"`
}

type root struct {
	Path string `json:"path"`
}

type limit struct {
	Type string `json:"type"`
	Hard uint64 `json:"hard"`
	Soft uint64 `json:"soft"`
}

type mount struct {
	Target string `json:"destination"`
	Type   string `json:"type"`
	Source string `json:"source"`
}

type namespace struct {
	Type string `json:"type"`
}

type linux struct {
	Namespaces []namespace `json:"namespaces"`
}

// maxOpen is how many files a program may have open, as in any sandbox.
const maxOpen = 4096

func configOf(p sandbox.Program, disk int64) config {
	c := config{Version: "1.0.2", Root: root{sandbox.RootAt}, Host: "perrin"}
	c.Process = process{Args: p.Args, Env: p.Env, Dir: path.Clean("/" + p.Dir), NoNew: true,
		Limits: []limit{{"RLIMIT_NOFILE", maxOpen, maxOpen}, {"RLIMIT_CORE", 0, 0}}}
	if disk > 0 {
		c.Process.Limits = append(c.Process.Limits, limit{"RLIMIT_FSIZE", uint64(disk), uint64(disk)})
	}
	c.Mounts = []mount{{"/proc", "proc", "proc"}, {"/tmp", "tmpfs", "tmpfs"}}
	for _, kind := range []string{"pid", "ipc", "uts", "mount", "network"} {
		c.Linux.Namespaces = append(c.Linux.Namespaces, namespace{kind})
	}
	return c
}
