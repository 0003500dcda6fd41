// Command init is the init of the test's machine: it makes a root that can be
// pivoted away from, runs the test's commands and says what they said.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	if os.Getpid() != 1 {
		os.Exit(2)
	}
	if os.Getenv("MOVED") == "" {
		fail(move())
	}
	fail(mounts())
	run()
	power()
}

func power() {
	time.Sleep(100 * time.Millisecond)
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_RESTART)
}

func fail(err error) {
	if err != nil {
		fmt.Printf("\nFAILED %v\n", err)
		power()
	}
}

// move copies the initial RAM disk into a tmpfs and starts over in it: a sandbox
// pivots its root, which the RAM disk does not allow.
func move() error {
	fail(os.MkdirAll("/new", 0o755))
	fail(syscall.Mount("new", "/new", "tmpfs", 0, "mode=0755,size=90%"))
	for _, dir := range []string{"usr", "etc", "init"} {
		err := filepath.WalkDir("/"+dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				return os.MkdirAll("/new"+path, 0o755)
			}
			return copyFile(path, "/new"+path)
		})
		fail(err)
		fail(os.RemoveAll("/" + dir))
	}
	for _, dir := range []string{"proc", "sys", "dev", "tmp", "run", "data", "root", "var"} {
		fail(os.MkdirAll("/new/"+dir, 0o755))
	}
	fail(os.Chdir("/new"))
	fail(syscall.Mount(".", "/", "", syscall.MS_MOVE, ""))
	fail(syscall.Chroot("."))
	fail(os.Chdir("/"))
	return syscall.Exec("/init", []string{"/init"}, []string{"MOVED=yes", "PATH=/usr/bin", "HOME=/root"})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}

func mounts() error {
	for _, m := range [][3]string{{"proc", "/proc", ""}, {"sysfs", "/sys", ""}, {"devtmpfs", "/dev", ""}, {"cgroup2", "/sys/fs/cgroup", ""}, {"tmpfs", "/tmp", "mode=1777"}} {
		if err := syscall.Mount(m[0], m[1], m[0], 0, m[2]); err != nil {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	for _, link := range []string{"bin", "sbin"} {
		_ = os.Symlink("usr/bin", "/"+link)
	}
	return loopback()
}

// say runs a command and says what it said between lines that the test finds.
func say(name string, env []string, args ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	fmt.Printf("\nBEGIN %s\n%s\nEND %s %v\n", name, strings.TrimSpace(out.String()), name, err)
	return strings.TrimSpace(out.String())
}

func show(name, file string) {
	text, err := os.ReadFile(file)
	fmt.Printf("\nBEGIN %s\n%s\nEND %s %v\n", name, strings.TrimSpace(string(text)), name, err)
}

// daemon starts a node, whose log goes to a file.
func daemon(name string, args ...string) (pid int) {
	log, err := os.Create("/tmp/" + name + ".log")
	fail(err)
	cmd := exec.Command("perrin", append([]string{"up", "--data", "/data/" + name, "--socket", socket(name), "--lease-ttl", "60s", "--loopback", "--mdns=false"}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	fail(cmd.Start())
	return cmd.Process.Pid
}

// owner has four programs share two CPUs in a cgroup of their own, and says what the
// node lends out before and meanwhile.
func owner(node []string) {
	const group = "/sys/fs/cgroup/owner.slice"
	fail(os.Mkdir(group, 0o755))
	time.Sleep(8 * time.Second) // what ran before is forgotten after three
	say("lent before", node, "perrin", "nodes", "one", "--json")
	for i := range 4 {
		cmd := exec.Command("probe", "spin")
		fail(cmd.Start())
		defer cmd.Process.Kill()
		fail(os.WriteFile(group+"/cgroup.procs", fmt.Append(nil, cmd.Process.Pid), 0))
		last := [2]uint64{1 << (7 - 2*(i%2))}
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", cmd.Process.Pid))
		for _, t := range threads {
			var tid uintptr
			fmt.Sscan(filepath.Base(t), &tid)
			syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, tid, 16, uintptr(unsafe.Pointer(&last)))
		}
	}
	time.Sleep(12 * time.Second) // the node looks every two seconds while it lends nothing
	show("pressure", group+"/cpu.pressure")
	say("lent beside", node, "perrin", "nodes", "one", "--json")
}

func socket(name string) string { return "/run/" + name + ".sock" }

func run() {
	one, two := []string{"PERRIN_SOCKET=" + socket("one")}, []string{"PERRIN_SOCKET=" + socket("two")}
	for cpu := range 8 {
		show(fmt.Sprintf("siblings%d", cpu), fmt.Sprintf("/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu))
	}
	say("init", nil, "perrin", "init", "--data", "/data/one", "--name", "one")
	first := daemon("one")
	for i := 0; i < 120; i++ {
		if _, err := os.Stat(socket("one")); err == nil {
			break
		}
		time.Sleep(500 * time.Millisecond)
	}
	say("ready", one, "perrin", "status", "--wait")
	say("cores", one, "perrin", "run", "--cores", "1", "--", "probe", "affinity")
	say("two cores", one, "perrin", "run", "--cores", "2", "--", "probe", "affinity")
	say("hello", one, "perrin", "run", "--threads", "1", "--", "probe", "both", "out", "err")
	token := say("invite", one, "perrin", "invite")
	lines := strings.Fields(token)
	for _, word := range lines {
		if strings.HasPrefix(word, "perrin1-") {
			token = word
		}
	}
	say("join", nil, "perrin", "join", token, "--data", "/data/two", "--name", "two", "--loopback", "--mdns=false")
	daemon("two", "--cores", "1", "--memory", "64MiB")
	for i := 0; i < 120; i++ {
		if _, err := os.Stat(socket("two")); err == nil {
			break
		}
		time.Sleep(500 * time.Millisecond)
	}
	say("second ready", two, "perrin", "status", "--wait")
	say("hold", one, "perrin", "run", "-d", "--name", "hold", "--disk", "16MiB", "--memory", "128MiB", "--threads", "1", "--where", "name==one", "--", "probe", "trap-term")
	say("held", one, "perrin", "nodes", "one")
	say("stranger's thread", two, "perrin", "run", "--name", "stranger", "--memory", "128MiB", "--disk", "16MiB", "--threads", "1", "--where", "name==one", "--", "probe", "affinity")
	say("jobs", two, "perrin", "ps", "--all")
	say("why", two, "perrin", "why", "stranger")
	show("log two", "/tmp/two.log")
	say("own thread", one, "perrin", "run", "--disk", "16MiB", "--memory", "128MiB", "--threads", "1", "--where", "name==one", "--", "probe", "affinity")
	say("escape", one, "perrin", "run", "--disk", "16MiB", "--memory", "128MiB", "--threads", "1", "--where", "name==one", "--", "probe", "escape", "root=/work", "mark=a",
		"secret=/init", "key=/data/one/keys/node", "socket="+socket("one"), "other=/data/one/slots/x", "variable=HOME_OF_NODE", fmt.Sprint("pid=", first), "tcp=127.0.0.1:1", "abstract=none", "shm=1")
	owner(one)
	show("log", "/tmp/one.log")
	fmt.Print("\nALL DONE\n")
}
