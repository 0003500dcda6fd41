package node_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/devmesh"
	"github.com/perrin-mesh/perrin/workload"
)

// TestNothingIsLeftBehindKills kills a daemon, or one of its helpers and then the
// daemon, with SIGKILL at moments that lie through the whole life of its tasks.
// After each next start nothing but what a fresh node has may be there: processes,
// namespaces, mounts, cgroups and folders are counted.
func TestNothingIsLeftBehindKills(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) })
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	m := startMesh(t, devmesh.Options{Nodes: 1, Cores: 4, Args: shortLease})
	node := m.Members[0]
	prefix := "perrin-" + m.id(node).Short()
	if n := len(remains(t, node, tmp, prefix)); n > 0 {
		t.Skipf("the machine had %d things of other runs before", n)
	}
	victims := []string{"daemon", "supervisor", "launcher", "first process", "program"}
	const rounds = 10
	for i := range rounds {
		c := m.client(0)
		quick, long := shell(6, "sleep 0.02; echo x > $PERRIN_OUT/x"), shell(1, "echo x > /tmp/x; sleep 100 & sleep 1000")
		quick.Name, long.Name = fmt.Sprint("quick-", i), fmt.Sprint("long-", i)
		ids := []workload.ID{submit(t, c, quick), submit(t, c, long)}
		<-time.After(time.Duration(i*i) * 4 * time.Millisecond) // from before the award to after most ends
		victim := victims[i%len(victims)]
		began := time.Now()
		killOne(t, node, victim)
		node.Kill()
		if i == 0 {
			plant(t, node, tmp, prefix)
		}
		if err := m.Restart(node); err != nil {
			t.Fatal(err)
		}
		m.status(0, 40*time.Second, "the node serves again", func(st *api.Status) bool { return st.Ready })
		c = m.client(0)
		for _, id := range ids {
			if err := c.Stop(within(t, 30*time.Second), id); err != nil && !strings.Contains(err.Error(), "has ended") {
				t.Fatal(err)
			}
			waitFor(t, c, id, 40*time.Second, "it is over", func(w *api.Workload) bool { return w.Phase.Ended() })
		}
		poll(t, 20*time.Second, "nothing is left after the "+victim+" was killed in round "+strconv.Itoa(i), func(context.Context) ([]string, error) {
			return remains(t, node, tmp, prefix), nil
		}, func(left []string) bool { return len(left) == 0 })
		t.Logf("round %d (%s): %s", i, victim, time.Since(began))
	}
}

// plant leaves what a daemon might that is killed at the worst moment: folders of
// self-tests, slots, images and compilers that were not done, and a process in the
// node's cgroup with a mount and a network link in namespaces of its own.
func plant(t *testing.T, node *devmesh.Member, tmp, prefix string) {
	t.Helper()
	old := time.Now().Add(-time.Hour)
	versions, _ := filepath.Glob(filepath.Join(node.Data, "compiled", "*"))
	if len(versions) == 0 {
		t.Fatal("the node keeps no machine code")
	}
	for _, dir := range []string{filepath.Join(tmp, "perrin-probe-left"), filepath.Join(node.Data, "slots", "left"), filepath.Join(node.Data, "images", "tmp-1-1"),
		filepath.Join(node.Data, "vm-probe-left"), filepath.Join(versions[0], "new-left")} {
		err := os.MkdirAll(filepath.Join(dir, "deep", "er"), 0o755)
		if err == nil {
			err = os.Chtimes(dir, old, old)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	parents, _ := filepath.Glob("/sys/fs/cgroup/pids")
	if os.Geteuid() != 0 || len(parents) == 0 {
		return // cgroups of version 2 are the emulated machine's
	}
	at := filepath.Join(node.Data, "slots", "left")
	cmd := exec.Command("sh", "-c", "mount -t tmpfs left "+at+" && ip link add left type dummy; echo; exec sleep 1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID, Unshareflags: unix.CLONE_NEWNS, Setsid: true}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	_, rest, _ := strings.Cut(string(own), ":pids:")
	below, _, _ := strings.Cut(rest, "\n")
	group := filepath.Join(parents[0], below, prefix, "w1-left")
	if err = errors.Join(err, os.MkdirAll(group, 0o755), os.WriteFile(filepath.Join(group, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0)); err != nil {
		t.Fatal(err)
	}
}

// killOne kills a helper of the daemon, when it is there.
func killOne(t *testing.T, node *devmesh.Member, victim string) {
	t.Helper()
	for _, p := range descendants(node.PID) {
		is := map[string]bool{
			"supervisor": p.role == "supervisor", "launcher": p.role == "sandbox" && p.depth == 1,
			"first process": p.role == "sandbox" && p.depth == 2, "program": p.depth == 2 && p.role == "",
		}[victim]
		if is {
			_ = unix.Kill(p.pid, unix.SIGKILL) // it may have ended
		}
	}
}

// process is one that descends from another.
type process struct {
	pid, depth int    // depth: in how many pid namespaces it is
	role       string // of the shim, "" for another program
	name       string
	namespaces map[string]string
}

// descendants lists the living ones.
func descendants(pid int) (out []process) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list) // a thread that has ended has none
		for f := range strings.FieldsSeq(string(text)) {
			child, _ := strconv.Atoi(f)
			if p, ok := look(child); ok {
				out = append(append(out, p), descendants(child)...)
			}
		}
	}
	return out
}

func look(pid int) (process, bool) {
	cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	args := strings.Split(string(cmdline), "\x00")
	if args[0] == "" {
		return process{}, false // dead
	}
	p := process{pid: pid, name: args[0], namespaces: map[string]string{}}
	if args[0] == "perrin-shim" && len(args) > 1 {
		p.role = args[1]
	}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		if list, ok := strings.CutPrefix(line, "NSpid:"); ok {
			p.depth = len(strings.Fields(list))
		}
	}
	for _, kind := range []string{"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"} {
		p.namespaces[kind], _ = os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	}
	return p, true
}

// parkedBoxes is how many empty sandboxes a node keeps (sandbox.keepParked).
const parkedBoxes = 2

// remains lists what a node that does nothing has not.
func remains(t *testing.T, node *devmesh.Member, tmp, prefix string) (left []string) {
	t.Helper()
	roles, kinds := map[string]int{}, map[string]map[string]bool{}
	for _, p := range descendants(os.Getpid()) {
		if p.pid == node.PID {
			continue
		}
		roles[p.role]++
		if p.role == "" || p.role != "supervisor" && p.role != "sandbox" {
			left = append(left, fmt.Sprintf("process %d, %s %s", p.pid, p.name, p.role))
		}
		for kind, ns := range p.namespaces {
			if kinds[kind] == nil {
				kinds[kind] = map[string]bool{}
			}
			kinds[kind][ns] = true
		}
	}
	if roles["supervisor"] > 1 || roles["sandbox"] > 1+parkedBoxes {
		left = append(left, fmt.Sprintf("processes %v", roles))
	}
	for kind, all := range kinds { // the host's, the launcher's and the empty sandboxes' own
		if len(all) > 2+parkedBoxes {
			left = append(left, fmt.Sprintf("%d %s namespaces", len(all), kind))
		}
	}
	left = append(left, leftMounts(t, node)...)
	for _, pattern := range []string{"/sys/fs/cgroup/*/" + prefix + "*/w*", "/sys/fs/cgroup/" + prefix + "*/w*", "/sys/fs/cgroup/*/*/" + prefix + "*/w*",
		filepath.Join(node.Data, "slots", "*"), filepath.Join(node.Data, "images", "tmp-*"), filepath.Join(node.Data, "vm-probe-*"),
		filepath.Join(node.Data, "compiled", "*", "new-*"), filepath.Join(tmp, "perrin-*")} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, slices.DeleteFunc(found, func(name string) bool { return name == node.Data })...)
	}
	return left
}

// leftMounts are those of the node's folder, in this process's namespace, where
// the daemon is, and in the daemon's helpers'.
func leftMounts(t *testing.T, node *devmesh.Member) (left []string) {
	t.Helper()
	pids := []int{os.Getpid(), node.PID}
	for _, p := range descendants(node.PID) {
		pids = append(pids, p.pid)
	}
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
		if err != nil {
			continue // it has ended
		}
		if strings.Contains(string(text), node.Data) {
			left = append(left, fmt.Sprintf("a mount of the node's folder in process %d", pid))
		}
	}
	return left
}
