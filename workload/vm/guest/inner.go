package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload/vm/guestwire"
)

// initConfig is what an attempt's own init is told.
type initConfig struct {
	Lower   string            `json:"lower"`
	Request guestwire.Request `json:"request"`
}

// Exit codes of shells.
const (
	codeNotExecutable = 126
	codeNotFound      = 127
)

// attemptInit is the life of an attempt's own init: process 1 of its namespaces,
// whose end is the end of everything in them.
func attemptInit() int {
	config, reports := os.NewFile(3, "config"), os.NewFile(4, "report")
	if config == nil || reports == nil {
		return 2
	}
	unix.CloseOnExec(3)
	unix.CloseOnExec(4)
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, syscall.SIGTERM)
	say := json.NewEncoder(reports)
	var cfg initConfig
	err := json.NewDecoder(config).Decode(&cfg)
	if err == nil {
		err = enterView(&cfg)
	}
	if err != nil {
		_ = say.Encode(report{Code: codeNotExecutable, NoExec: "the attempt's view: " + err.Error()})
		return 1
	}
	pid, err := startCommand(&cfg.Request)
	if err != nil {
		code := int32(codeNotExecutable)
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			code = codeNotFound
		}
		_ = say.Encode(report{Code: code, NoExec: err.Error()})
		return 1
	}
	_ = say.Encode(report{Started: true})
	go func() {
		for range terms {
			_ = unix.Kill(pid, unix.SIGTERM)
		}
	}()
	_ = say.Encode(reap(pid))
	return 0
}

// reap waits for everything until the command has ended.
func reap(command int) report {
	for {
		var ws syscall.WaitStatus
		var ru syscall.Rusage
		pid, err := syscall.Wait4(-1, &ws, 0, &ru)
		switch {
		case err == syscall.EINTR || err == nil && pid != command:
			continue
		case err != nil:
			return report{Signal: int32(unix.SIGKILL)}
		case ws.Signaled():
			return report{Signal: int32(ws.Signal()), Peak: ru.Maxrss << 10}
		}
		return report{Code: int32(ws.ExitStatus()), Peak: ru.Maxrss << 10}
	}
}

func startCommand(req *guestwire.Request) (pid int, err error) {
	if len(req.Args) == 0 {
		return 0, errors.New("no command is given")
	}
	for _, e := range req.Env {
		if path, ok := strings.CutPrefix(e, "PATH="); ok {
			os.Setenv("PATH", path)
		}
	}
	path, err := exec.LookPath(req.Args[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return 0, err
	}
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("0"), 0) // inherited; this process itself stays out of reach
	defer func() { _ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0) }()
	return syscall.ForkExec(path, req.Args, &syscall.ProcAttr{Env: req.Env, Dir: "/work", Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{Setsid: true}})
}

// enterView makes the command's view of the machine and enters it.
func enterView(cfg *initConfig) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/overlay", cfg.Lower, scratchDir, scratchDir)
	if err := mount("overlay", "overlay", viewDir, 0, layers); err != nil {
		return err
	}
	for _, dir := range []string{"work", "out", "tmp"} {
		if err := bind(filepath.Join(scratchDir, dir), filepath.Join(viewDir, dir), false); err != nil {
			return err
		}
	}
	if cfg.Request.Unit {
		if err := bind(unitDir, filepath.Join(viewDir, "perrin"), false); err != nil {
			return err
		}
	}
	for i, target := range cfg.Request.Mounts {
		if err := bind(filepath.Join(inputsDir, strconv.Itoa(i)), filepath.Join(viewDir, "work", target), true); err != nil {
			return err
		}
	}
	if err := errors.Join(mount("proc", "proc", viewDir+"/proc", 0, ""), mount("sysfs", "sysfs", viewDir+"/sys", unix.MS_RDONLY, ""),
		devices(viewDir+"/dev")); err != nil {
		return err
	}
	return switchRoot(viewDir)
}

// bind shows source, a file or a folder, at target.
func bind(source, target string, readOnly bool) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	dir := target
	if !info.IsDir() {
		dir = filepath.Dir(target)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if !info.IsDir() {
		if err := os.WriteFile(target, nil, 0o644); err != nil {
			return err
		}
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("show %s: %w", target, err)
	}
	if !readOnly {
		return nil
	}
	if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("show %s read-only: %w", target, err)
	}
	return nil
}

// devices makes the devices that programs expect. Those of the machine itself,
// its disk and its port, are not among them.
func devices(dir string) error {
	if err := mount("dev", "tmpfs", dir, unix.MS_NOSUID, "mode=0755,size=64k"); err != nil {
		return err
	}
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		path := filepath.Join(dir, name)
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))); err != nil {
			return fmt.Errorf("make %s: %w", path, err)
		}
		if err := os.Chmod(path, 0o666); err != nil {
			return err
		}
	}
	links := map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
		"stderr": "/proc/self/fd/2", "shm": "/tmp", "ptmx": "pts/ptmx"}
	for name, to := range links {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	_ = mount("devpts", "devpts", filepath.Join(dir, "pts"), unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620")
	return nil
}

// switchRoot makes dir, a mount, the root. The initial RAM disk cannot be
// pivoted away from, so the mount is moved over it (Documentation/filesystems/
// ramfs-rootfs-initramfs.rst).
func switchRoot(dir string) error {
	err := unix.Chdir(dir)
	if err == nil {
		err = unix.Mount(".", "/", "", unix.MS_MOVE, "")
	}
	if err == nil {
		err = unix.Chroot(".")
	}
	if err == nil {
		err = unix.Chdir("/")
	}
	if err != nil {
		return fmt.Errorf("enter the view: %w", err)
	}
	return nil
}
