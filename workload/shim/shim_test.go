package shim

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

// TestShimStaysSmall holds what the shim may link: the sandbox's inside, the
// wasm worker and the supervisor's loop, and never a part of the node.
func TestShimStaysSmall(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./cmd/perrin-shim").Output()
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]bool{
		"workload/shim/cmd/perrin-shim": true, "workload/shim/role": true, "workload/sandbox/inside": true,
		"workload/sandbox/cgroup": true, "workload/runner/watchdog": true, "workload/wasm/guest": true, "workload/wasm/frame": true,
	}
	for dep := range strings.Lines(string(out)) {
		dep = strings.TrimSpace(dep)
		if name, ours := strings.CutPrefix(dep, "github.com/perrin-mesh/perrin/"); ours {
			if !own[name] {
				t.Errorf("the shim links %s", dep)
			}
			continue
		}
		first, _, _ := strings.Cut(dep, "/")
		std := !strings.Contains(first, ".")
		if !std && !strings.HasPrefix(dep, "golang.org/x/sys/") && !strings.HasPrefix(dep, "github.com/tetratelabs/wazero") {
			t.Errorf("the shim links %s", dep)
		}
		if dep == "net/http" || dep == "crypto/tls" {
			t.Errorf("the shim links %s, which makes every start dearer", dep)
		}
	}
}

func TestCommandRunsASealedCopy(t *testing.T) {
	cmd, err := Command("no-such-role")
	if err != nil {
		t.Fatal(err)
	}
	said, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(said), `no role "no-such-role"`) {
		t.Errorf("%v: %q", err, said)
	}
	path, err := Path()
	if err != nil {
		t.Fatal(err)
	}
	if f, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
		_, err = f.Write([]byte("x"))
		f.Close()
		if err == nil {
			t.Error("the copy can be written")
		}
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if want := unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL; err != nil || seals&want != want {
		t.Errorf("seals %#x, %v", seals, err)
	}
}
