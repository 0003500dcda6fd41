package node_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/node/devmesh"
)

// TestTornLedger damages the last writes of one voter's ledger, most of which it
// had acknowledged. The voter refuses to start, in words: it must not vote with a
// part of its memory gone. The others have everything, and a fresh node takes
// its place. Another user's attempt to serve a folder is refused in words, too.
func TestTornLedger(t *testing.T) {
	t.Parallel()
	m := startMesh(t, devmesh.Options{Nodes: 3, Cores: 2, Args: shortLease})
	m.learnIDs()
	promises := m.askAll(0, askSingle, askMap, askShipped)
	for _, p := range promises {
		if err := p.kept(within(t, time.Minute), m.client(0)); err != nil {
			t.Error(err)
		}
	}
	torn := 1 + m.leader(0)%2 // not the first, which can invite
	m.Members[torn].Kill()
	m.tear(torn)
	said := m.cannotServe(torn, 0, 1)
	for _, want := range []string{"error: ", m.Members[torn].Data, "damaged", "acknowledged writes", "hint: ", "perrin join TOKEN"} {
		if !strings.Contains(said, want) {
			t.Errorf("a torn ledger is answered without %q:\n%s", want, said)
		}
	}
	if os.Geteuid() == 0 {
		said = m.cannotServe(torn, 65534, 2)
		if !strings.Contains(said, "error: ") || !strings.Contains(said, "this user may not") || !strings.Contains(said, "hint: ") {
			t.Errorf("another user is answered:\n%s", said)
		}
	}
	promises = append(promises, m.askAll(0, askSingle, askMap)...)
	m.wipe(torn)
	fresh := m.grow()
	m.healed(fresh, torn)
	for _, p := range promises {
		if err := p.kept(within(t, time.Minute), m.client(fresh)); err != nil {
			t.Error(err)
		}
	}
}

// tornBytes is more than the one write that a daemon may have in hand, not yet
// acknowledged, when it is killed.
const tornBytes = 4000

// tear garbles the last bytes of the newest write-ahead log of a ledger.
func (m *testMesh) tear(i int) {
	t := m.t
	logs, err := filepath.Glob(filepath.Join(m.Members[i].Data, "ledger", "raft", "*.mem"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no write-ahead log: %v", err)
	}
	slices.Sort(logs)
	name := logs[len(logs)-1]
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	end := len(bytes.TrimRight(b, "\x00"))
	if end < 2*tornBytes {
		t.Fatalf("%s holds %d bytes only", name, end)
	}
	clear(b[end-tornBytes:])
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// cannotServe starts a daemon on a member's folder, as another user unless uid is
// 0, and returns what it says as it refuses with an exit code.
func (m *testMesh) cannotServe(i int, uid uint32, code int) string {
	t := m.t
	exe, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(within(t, 30*time.Second), exe, "up", "--data", m.Members[i].Data,
		"--socket", filepath.Join(t.TempDir(), "s"), "--listen", "/ip4/127.0.0.1/udp/0/quic-v1", "--loopback")
	if uid != 0 {
		if err := os.Chmod(filepath.Dir(exe), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		cmd.Dir = "/"
	}
	said, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != code {
		t.Errorf("the daemon ended with %v, want exit code %d", err, code)
	}
	return string(said)
}
