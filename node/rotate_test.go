package node

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/perrin-mesh/perrin/consensus/store"
	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// desk is an operator's node that only lets others in.
type desk struct {
	t    *testing.T
	data string
	id   *identity
	host *mesh.Host
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, data: t.TempDir()}
	if _, err := Init(d.data, "desk"); err != nil {
		t.Fatal(err)
	}
	var err error
	if d.id, _, err = loadIdentity(d.data); err != nil {
		t.Fatal(err)
	}
	cfg := mesh.Default()
	cfg.Key, cfg.Bundle, cfg.Trust, cfg.MDNS = d.id.key, d.id.bundle, d.id.trust, false
	cfg.Listen, cfg.Log = []string{"/ip4/127.0.0.1/udp/0/quic-v1"}, slog.New(slog.DiscardHandler)
	if d.host, err = mesh.New(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.host.Close() })
	d.host.ServeIssuer(d.id.issuer.Load(), func() []string { return nil })
	return d
}

// join makes the data folder of a node that this desk let in.
func (d *desk) join(name string) string {
	d.t.Helper()
	at, _, _ := strings.Cut(d.host.Addrs()[0], "/p2p/")
	invitation, err := d.id.issuer.Load().Invite(1, time.Hour, []string{at}, time.Now())
	if err != nil {
		d.t.Fatal(err)
	}
	token, err := invitation.Token()
	if err != nil {
		d.t.Fatal(err)
	}
	data := d.t.TempDir()
	if _, err := Join(d.t.Context(), data, name, token); err != nil {
		d.t.Fatal(err)
	}
	return data
}

// stands fails the test unless the desk takes the node of a folder as it is now.
func (d *desk) stands(data string) *identity {
	d.t.Helper()
	id, _, err := loadIdentity(data)
	if err != nil {
		d.t.Fatal(err)
	}
	if who, err := d.id.trust.Verify(id.bundle, idOf(id.key), time.Now()); err != nil || who.Name != "shed" {
		d.t.Errorf("the node does not stand: %+v, %v", who, err)
	}
	return id
}

func TestNodeGetsANewKey(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	data := d.join("shed")
	old := d.stands(data)
	r, err := RotateKey(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	id := d.stands(data)
	if r.Old != idOf(old.key) || r.Node != idOf(id.key) || r.Node == r.Old || r.Name != "shed" || !id.owner.Equal(old.owner) {
		t.Errorf("%+v", r)
	}
	if _, err := d.id.trust.Verify(old.bundle, r.Old, time.Now()); !errors.Is(err, admission.ErrDenied) {
		t.Errorf("the old key: %v", err)
	}
	if _, err := os.Stat(filepath.Join(keysDir(data), keyNode2)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a second key is left: %v", err)
	}
	thief, err := admission.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mesh.Succeed(t.Context(), thief, old.key, old.bundle, d.host.Addrs()); !errors.Is(err, admission.ErrDenied) {
		t.Errorf("a stolen old key is rotated: %v", err)
	}
	if _, err := RotateKey(t.Context(), data); !errors.Is(err, admission.ErrRotated) {
		t.Errorf("twice a day: %v", err)
	}
	d.stands(data)
	if _, err := os.Stat(filepath.Join(keysDir(data), keyNode2)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused change goes on at the next start: %v", err)
	}
	if _, err := admission.LoadKey(keysDir(data), keyRefused); err != nil {
		t.Errorf("a key that an operator may have let in is gone: %v", err)
	}
	if _, err := RotateKey(t.Context(), d.data); !errors.Is(err, admission.ErrOperatorNode) {
		t.Errorf("an operator's node: %v", err)
	}
	release, err := store.Claim(filepath.Join(data, "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if _, err := RotateKey(t.Context(), data); !errors.Is(err, store.ErrInUse) {
		t.Errorf("under a daemon: %v", err)
	}
}

// TestCrashLeavesOneKeyThatWorks stops a change of keys wherever it writes something.
func TestCrashLeavesOneKeyThatWorks(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	for name, crash := range map[string]func(id *identity, h *home) error{
		"with a new key on disk": func(id *identity, _ *home) error { return nil },
		"after the operator's answer": func(id *identity, h *home) error {
			_, err := id.askToSucceed(t.Context(), h)
			return err
		},
		"before the certificate is in its place": func(id *identity, h *home) error {
			joined, err := id.askToSucceed(t.Context(), h)
			if err != nil {
				return err
			}
			return saveHome(id.dir, h.afterRotation(id, joined))
		},
		"after it": func(id *identity, h *home) error {
			joined, err := id.askToSucceed(t.Context(), h)
			if err != nil {
				return err
			}
			return admission.WriteFile(id.dir, fileBundle, joined.Bundle.Encode())
		},
	} {
		t.Run(name, func(t *testing.T) {
			data := d.join("shed")
			id, h, err := loadIdentity(data)
			if err != nil {
				t.Fatal(err)
			}
			old := idOf(id.key)
			if _, err := admission.LoadOrCreateKey(id.dir, keyNode2); err != nil {
				t.Fatal(err)
			}
			if err := crash(id, h); err != nil {
				t.Fatal(err)
			}
			restarted(t, data)
			if now := idOf(d.stands(data).key); now == old {
				t.Error("the change was not ended")
			}
			if d.id.trust.Denied(old, time.Now()) == nil {
				t.Error("the old key counts")
			}
		})
	}
}

// TestCellIsNotLeftWithoutMajority: a node does not change its key while the cell's log
// on its own disk says that the other voters are no majority; nor does the next start.
func TestCellIsNotLeftWithoutMajority(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	data := d.join("shed")
	id, h, err := loadIdentity(data)
	if err != nil {
		t.Fatal(err)
	}
	self := idOf(id.key)
	h.Cell, h.Server = newCellID(), true
	others := []wire.PeerAddrs{{Peer: idOf(seededKey(1))}, {Peer: idOf(seededKey(2))}}
	h.View = wire.CellView{Cell: h.Cell, Term: 1, Voters: append(others, wire.PeerAddrs{Peer: self})} // three, as it was told once
	if err := saveHome(id.dir, h); err != nil {
		t.Fatal(err)
	}
	if _, err := admission.LoadOrCreateKey(id.dir, keyNode2); err != nil { // of a try that reached nobody
		t.Fatal(err)
	}
	if f, err := AbortRotation(data); err != nil || f.Node != self {
		t.Errorf("given up: %v, %v", f, err)
	}
	if _, err := AbortRotation(data); !errors.Is(err, ErrNotBegun) {
		t.Errorf("given up twice: %v", err)
	}
	if err := id.nextKey(); err != nil { // the same one again
		t.Fatal(err)
	}
	for index, voters := range [][]workload.PeerID{{self}, {self, others[0].Peer}} {
		logVoters(t, data, h.Cell, uint64(index+1), voters)
		if _, err := RotateKey(t.Context(), data); !errors.Is(err, ErrOnlyVoter) {
			t.Errorf("%d voters: %v", len(voters), err)
		}
		restarted(t, data)
		if d.stands(data); idOf(id.key) != self || d.id.trust.Denied(self, time.Now()) != nil {
			t.Errorf("%d voters: the next start changed the key", len(voters))
		}
	}
	logVoters(t, data, h.Cell, 3, []workload.PeerID{self, others[0].Peer, others[1].Peer})
	if _, err := RotateKey(t.Context(), data); err != nil {
		t.Errorf("three voters: %v", err)
	}
}

// logVoters appends a configuration to a cell's log.
func logVoters(t *testing.T, data string, cell workload.CellID, index uint64, voters []workload.PeerID) {
	t.Helper()
	st, err := store.Open(filepath.Join(data, "ledger"), store.Default(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	group, err := st.Group(groupName(cell))
	if err != nil {
		t.Fatal(err)
	}
	var c raft.Configuration
	for _, v := range voters {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(v.String()), Address: raft.ServerAddress(v.String())})
	}
	if err := group.StoreLog(&raft.Log{Index: index, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(c)}); err != nil {
		t.Fatal(err)
	}
}

// restarted does what a daemon does of a change of keys as it starts.
func restarted(t *testing.T, data string) {
	t.Helper()
	id, h, err := loadIdentity(data)
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{id: id, self: idOf(id.key), home: *h, log: slog.New(slog.DiscardHandler)}
	n.finishRotation(context.WithoutCancel(t.Context()))
	if n.self != idOf(id.key) {
		t.Error("the node goes by the old key")
	}
}
