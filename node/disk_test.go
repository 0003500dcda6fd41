package node_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/devmesh"
)

// smallDisk is the size of a node's disk in these tests: its stores, the reserve
// below which nothing is acknowledged, and as much again to fill.
const smallDisk = 256 << 20

// smallDisks mounts a small disk for each node of a mesh and returns the folder
// that they are in.
func smallDisks(t *testing.T, nodes int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range nodes {
		disk := filepath.Join(dir, fmt.Sprintf("node%d", i+1))
		if err := os.Mkdir(disk, 0o700); err != nil {
			t.Fatal(err)
		}
		err := unix.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%d", smallDisk))
		if errors.Is(err, unix.EPERM) {
			t.Skip("mounts are not allowed")
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	return dir
}

// fill takes all but left bytes of a member's disk, and returns what gives them back.
func (m *testMesh) fill(i int, left int64) (empty func()) {
	m.t.Helper()
	disk := m.Members[i].Data
	ballast := filepath.Join(disk, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		m.t.Fatal(err)
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Statfs(disk, &st); err != nil {
		m.t.Fatal(err)
	}
	err = unix.ENOSPC // the daemon writes too
	for take := int64(st.Bavail)*st.Bsize - left; take > 0 && errors.Is(err, unix.ENOSPC); take -= 64 << 10 {
		err = unix.Fallocate(int(f.Fd()), 0, 0, take)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return func() {
		if err := os.Remove(ballast); err != nil {
			m.t.Error(err)
		}
	}
}

// TestFullDisks fills the disks of one mesh of three: a follower's, the
// leader's, and a majority's. Nothing is acknowledged that is
// not kept, what is refused is refused in words, and each node goes on by itself
// once there is room.
func TestFullDisks(t *testing.T) {
	t.Parallel()
	m := startMesh(t, devmesh.Options{Nodes: 3, Cores: 2, Args: shortLease, Data: smallDisks(t, 3)})
	m.learnIDs()
	promises := m.askAll(0, askSingle, askMap)
	promises = append(promises, m.followerFull()...)
	promises = append(promises, m.leaderFull()...)
	promises = append(promises, m.majorityFull()...)
	for i, p := range promises {
		if err := p.kept(within(t, time.Minute), m.client(i%3)); err != nil {
			t.Error(err)
		}
	}
}

// followerFull: the others go on, and the node says what is wrong.
func (m *testMesh) followerFull() []*promise {
	leads := m.leader(0)
	full := (leads + 1) % 3
	empty := m.fill(full, 20<<20)
	defer empty()
	m.warns(full, "is full")
	return m.askAll(leads, askSingle, askMap, askShipped)
}

// leaderFull: another voter leads soon, and takes what the full one refuses.
func (m *testMesh) leaderFull() []*promise {
	t := m.t
	leads := m.leader(0)
	was := m.id(m.Members[leads])
	empty := m.fill(leads, 20<<20)
	defer empty()
	other := (leads + 1) % 3
	m.status(other, 20*time.Second, "another voter leads", func(st *api.Status) bool {
		return st.Ready && !st.Cells[0].Leader.IsZero() && st.Cells[0].Leader != was
	})
	promises := m.askAll(other, askSingle, askMap)
	for _, p := range promises {
		if err := p.kept(within(t, time.Minute), m.client(other)); err != nil {
			t.Error(err)
		}
	}
	return promises
}

// majorityFull: nothing is acknowledged, in words that name a full disk. When
// there is room again everything goes on, without a restart.
func (m *testMesh) majorityFull() []*promise {
	t := m.t
	leads := m.leader(0)
	pending := m.askAll(leads, askSingle, askFailing)
	full := []int{(leads + 1) % 3, (leads + 2) % 3}
	for _, i := range full {
		empty := m.fill(i, 8<<20)
		defer empty()
	}
	m.warns(full[0], "is full")
	m.warns(full[1], "is full")
	p, err := ask(t.Context(), m.client(leads), askMap)
	var refused *api.Error
	if !errors.As(err, &refused) || refused.Kind != api.Unavailable || !strings.Contains(refused.Message, "full") || refused.Hint == "" {
		t.Errorf("with two of three disks full a workload is answered with %+v, %v", p, err)
	}
	m.full(full[0])
	return pending
}

// full holds that a full disk refuses an upload in words.
func (m *testMesh) full(i int) {
	_, err := m.client(i).PutBlob(within(m.t, 20*time.Second), io.LimitReader(zeros{}, 8<<20))
	var refused *api.Error
	if !errors.As(err, &refused) || !strings.Contains(refused.Message, m.Members[i].Data) || refused.Hint == "" {
		m.t.Errorf("an upload to a full disk: %v; want the disk's name and a hint", err)
	}
}

// zeros is an endless stream.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// warns waits until a node's status warns of something.
func (m *testMesh) warns(i int, of string) {
	m.t.Helper()
	m.status(i, 10*time.Second, "it warns: "+of, func(st *api.Status) bool {
		return slices.ContainsFunc(st.Warnings, func(w string) bool { return strings.Contains(w, of) })
	})
}
