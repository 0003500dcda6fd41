package mesh_test

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/mesh/meshtest"
)

// inLAN is set in the copy of the test that runs in a network of its own.
const inLAN = "PERRIN_TEST_LAN"

// TestJoinOverLAN joins with an invitation whose address leads nowhere: the
// issuer is found by multicast DNS, in a network namespace with one pair of
// virtual interfaces that carries multicast.
func TestJoinOverLAN(t *testing.T) {
	if os.Getenv(inLAN) == "" {
		t.Parallel()
		runInLAN(t)
		return
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"}, {"link", "add", "lan0", "type", "veth", "peer", "name", "lan1"}, {"link", "set", "lan1", "up"}, {"addr", "add", "10.77.0.1/24", "dev", "lan0"},
		{"link", "set", "lan0", "up", "multicast", "on"}, {"route", "add", "224.0.0.0/4", "dev", "lan0"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Skipf("this machine cannot make a pair of virtual interfaces: ip %q: %v: %s", args, err, out)
		}
	}
	a := meshtest.NewAuthority(t)
	cfg := a.Config(t, "first")
	cfg.Listen, cfg.MDNS = []string{"/ip4/10.77.0.1/udp/0/quic-v1"}, true
	n := meshtest.Start(t, cfg)
	inv, err := issuer(t, a, n).Invite(1, time.Hour, []string{"/ip4/10.77.0.1/tcp/1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	joined, err := mesh.Join(meshtest.Within(t, 30*time.Second), meshtest.Key(t), inv, "second", true)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(n.Addrs(), joined.Peers[0]) {
		t.Errorf("the issuer is said to be at %q, and is at %q", joined.Peers, n.Addrs())
	}
	other := a.Config(t, "third")
	other.Listen, other.MDNS = cfg.Listen, true
	third := meshtest.Start(t, other)
	select {
	case <-third.Bootstrapped():
	case <-time.After(20 * time.Second):
		t.Error("two members on one network do not find each other")
	}
}

func runInLAN(t *testing.T) {
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs the ip program of iproute2")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestJoinOverLAN$", "-test.v", "-test.timeout=90s")
	cmd.Env = append(os.Environ(), inLAN+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Skipf("needs user and network namespaces: %v", err)
	}
	err := cmd.Wait()
	t.Logf("in the namespace:\n%s", out.Bytes())
	if err != nil {
		t.Error(err)
	}
	if bytes.Contains(out.Bytes(), []byte("--- SKIP")) {
		t.Skip("see above")
	}
}
