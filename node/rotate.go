package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/consensus"
	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/consensus/store"
	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// ErrOnlyVoter is returned when a node cannot get a new key, since its cell's other
// voters are no majority without the old one.
var ErrOnlyVoter = errors.New("this node is one of two voters of its cell or the only one, and is known there by its key: the cell would have no majority")

// ErrBegun is returned when a change of keys could not be ended: another try, or the next
// start of the daemon, does.
var ErrBegun = errors.New("the change of this node's key is begun and not ended")

// ErrNotBegun is returned when there is no change of keys to give up.
var ErrNotBegun = errors.New("no change of its key is begun")

// ErrRunning is returned when a daemon runs where none may.
var ErrRunning = errors.New("the daemon runs")

// rotateWithin bounds how long an operator is looked for.
const rotateWithin = time.Minute

// Rotated is what RotateKey tells.
type Rotated struct {
	Founded
	Old workload.PeerID // put out from now on
}

// RotateKey gives the node of a data folder a new key. No daemon may run on it. An
// operator's node has to be reached: it certifies the new key and denies the old one in
// one step. The node is then a newcomer to its cell, with its old name, blobs and owner's
// key, and the reputation of the old key goes with it.
//
// The bundle's file is what switches from the old key to the new one, whole or not at
// all. After a crash before that, another RotateKey or the next start of the daemon
// finishes it with the same key; after a crash beyond it, any start tidies up.
func RotateKey(ctx context.Context, data string) (*Rotated, error) {
	id, h, err := loadIdentity(data)
	if err != nil {
		return nil, err
	}
	old := idOf(id.key)
	if err := mayRotate(id, h); err != nil {
		return nil, fmt.Errorf("node %s: %w", old.Short(), running(err))
	}
	unlock, err := store.Claim(filepath.Join(data, "ledger"))
	if err != nil {
		return nil, running(err)
	}
	defer unlock()
	if err := id.nextKey(); err != nil {
		return nil, err
	}
	if err := id.succeed(ctx, h); err != nil {
		if decided(err) { // no start of the daemon is to try again
			return nil, errors.Join(err, id.setNextAside())
		}
		return nil, fmt.Errorf("%w: %w", ErrBegun, err)
	}
	name, err := id.bundle.NodeName()
	return &Rotated{Founded: Founded{Mesh: id.bundle.Mesh(), Node: idOf(id.key), Name: name}, Old: old}, err
}

func running(err error) error {
	if errors.Is(err, store.ErrInUse) {
		return fmt.Errorf("%w: %w", ErrRunning, err)
	}
	return err
}

// AbortRotation has no start of the daemon end a change of keys that was begun. The new
// key is kept, since an operator may have taken it whose answer was lost: then the old one
// is denied, and another RotateKey goes on with the new one. No daemon may run.
func AbortRotation(data string) (*Founded, error) {
	id, _, err := loadIdentity(data)
	if err != nil {
		return nil, err
	}
	unlock, err := store.Claim(filepath.Join(data, "ledger"))
	if err != nil {
		return nil, running(err)
	}
	defer unlock()
	self := idOf(id.key)
	if err := id.trust.Denied(self, time.Now()); err != nil {
		return nil, fmt.Errorf("node %s has no use for its old key: %w", self.Short(), err)
	}
	if err := id.setNextAside(); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("node %s: %w", self.Short(), ErrNotBegun)
	} else if err != nil {
		return nil, err
	}
	name, err := id.bundle.NodeName()
	return &Founded{Mesh: id.bundle.Mesh(), Node: self, Name: name}, err
}

func (id *identity) setNextAside() error {
	return os.Rename(filepath.Join(id.dir, keyNode2), filepath.Join(id.dir, keyRefused))
}

// nextKey has a key that may become the node's: one that was asked for before, if any.
// Whoever refused it then need not have been an operator, and an operator may have taken
// it whose answer was lost; so none is ever deleted.
func (id *identity) nextKey() error {
	next := filepath.Join(id.dir, keyNode2)
	if _, err := os.Stat(next); errors.Is(err, fs.ErrNotExist) {
		if err := os.Rename(filepath.Join(id.dir, keyRefused), next); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	_, err := admission.LoadOrCreateKey(id.dir, keyNode2)
	return err
}

// mayRotate refuses what would leave the mesh without a part. It reads the voters where
// the cell's log is, which no daemon may have open: what a server was told of them by
// others is old as soon as it leads.
func mayRotate(id *identity, h *home) error {
	if issuer := id.issuer.Load(); issuer != nil {
		return fmt.Errorf("an operator's node keeps its key: %w", admission.ErrOperatorNode)
	}
	for _, o := range id.trust.Charter().Operators {
		if o.Node == idOf(id.key) {
			return fmt.Errorf("an operator's node keeps its key, which the charter names: %w", admission.ErrOperatorNode)
		}
	}
	voters, err := savedVoters(filepath.Dir(id.dir), h)
	if err != nil {
		return err
	}
	if slices.Contains(voters, idOf(id.key)) && len(voters) < 3 || h.Founder && len(voters) == 0 {
		return ErrOnlyVoter
	}
	return nil
}

// savedVoters reads who votes in the home cell as of the log on disk, if this node serves it.
func savedVoters(data string, h *home) (voters []workload.PeerID, err error) {
	if h.Cell.IsZero() || !h.Founder && !h.Server {
		return nil, nil
	}
	st, err := store.Open(filepath.Join(data, "ledger"), store.Default(), nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	group, err := st.Group(groupName(h.Cell))
	if err != nil {
		return nil, err
	}
	c, err := consensus.Saved(group)
	return c.Voters(), err
}

// succeed has an operator let the key of keyNode2 take this node's place, and makes it
// the node's.
func (id *identity) succeed(ctx context.Context, h *home) error {
	joined, err := id.askToSucceed(ctx, h)
	if err != nil {
		return err
	}
	return id.become(joined, h)
}

// askToSucceed has an operator certify the key of keyNode2 and deny the present one.
func (id *identity) askToSucceed(ctx context.Context, h *home) (mesh.Joined, error) {
	next, err := admission.LoadKey(id.dir, keyNode2)
	if err != nil {
		return mesh.Joined{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, rotateWithin)
	defer cancel()
	addrs := h.operatorAddrs(id.trust.Charter(), idOf(id.key))
	if len(addrs) == 0 {
		return mesh.Joined{}, fmt.Errorf("no address of an operator's node is known: %w", admission.ErrNotAdmitted)
	}
	var first error // of the one that an operator is likeliest at
	for _, addr := range addrs {
		joined, err := mesh.Succeed(ctx, next, id.key, id.bundle, []string{addr})
		if err == nil || decided(err) {
			return joined, err
		}
		if first == nil {
			first = err
		}
	}
	return mesh.Joined{}, fmt.Errorf("no operator's node answers (addresses tried: %d): %w", len(addrs), first)
}

// decided reports whether an operator has answered, and others will say the same.
func decided(err error) bool {
	for _, kind := range []error{admission.ErrDenied, admission.ErrRotated, admission.ErrOperatorNode, admission.ErrExpired, admission.ErrForged} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// become takes the new key into use.
func (id *identity) become(joined mesh.Joined, h *home) error {
	fresh := h.afterRotation(id, joined)
	if err := saveHome(id.dir, fresh); err != nil {
		return err
	}
	if err := admission.WriteFile(id.dir, fileBundle, joined.Bundle.Encode()); err != nil {
		return err
	}
	id.bundle, *h = joined.Bundle, *fresh
	if _, err := id.nodeKey(); err != nil {
		return err
	}
	return id.tidyKeys()
}

// afterRotation is a newcomer's place in the cell. The ledger's files stay, since what was
// voted in them must not be voted on twice.
func (h *home) afterRotation(id *identity, joined mesh.Joined) *home {
	fresh := &home{Contacts: joined.Peers, Boot: h.Boot}
	for _, addr := range h.operatorAddrs(id.trust.Charter(), idOf(id.key)) {
		if len(fresh.Contacts) < 2*rejoinAddrs && !slices.Contains(fresh.Contacts, addr) {
			fresh.Contacts = append(fresh.Contacts, addr)
		}
	}
	return fresh
}

// tidyKeys puts the node's key where it belongs, after a switch; the old one is gone then.
func (id *identity) tidyKeys() error {
	if err := admission.SaveKey(id.dir, keyNode, id.key); err != nil {
		return err
	}
	return os.Remove(filepath.Join(id.dir, keyNode2))
}

// nodeKey loads the node's key: the one of two that its certificate names. switched is
// true when that is the new one, and a crash kept it from being put in its place.
func (id *identity) nodeKey() (switched bool, err error) {
	if id.key, err = admission.LoadKey(id.dir, keyNode); err != nil {
		return false, err
	}
	next, err := admission.LoadKey(id.dir, keyNode2)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	chain, err := id.bundle.Chain()
	if err != nil || chain.Node != idOf(next) {
		return false, nil // whatever is wrong with the bundle, the host says
	}
	id.key = next
	return true, nil
}

// finishRotation ends a change of keys that a crash cut off, before the node starts. While
// no operator is reached the node starts with its old key, which then still counts unless
// an operator has denied it: another try is made at the next start.
func (n *Node) finishRotation(ctx context.Context) {
	if _, err := os.Stat(filepath.Join(n.id.dir, keyNode2)); err != nil {
		return
	}
	var err error
	if n.id.trust.Denied(n.self, time.Now()) == nil { // else the old key is worth nothing any more
		err = mayRotate(n.id, &n.home)
	}
	if err == nil {
		err = n.id.succeed(ctx, &n.home)
	}
	if err != nil {
		n.log.Warn("rotate-key is begun, and this node's key is still the old one; the next start tries again, unless perrin rotate-key --abort", "err", err)
		return
	}
	old := n.self
	n.self = idOf(n.id.key)
	n.log.Warn("rotate-key, which was begun, is ended: this node has a new key; tokens for the old one count no more", "key", n.self, "old", old)
}

// succession is what proves to the cell which key a member had before, while the cell
// remembers that one.
func (n *Node) succession(c *cell, doc *admission.SignedDenial) (raw []byte) {
	encoded := wire.MustMarshal(doc)
	old, _, err := admission.OpenSuccessor(n.host.Mesh(), encoded)
	if err != nil {
		return nil
	}
	c.Read(func(s *ledger.State) {
		if s.Remembered(old) {
			raw = encoded
		}
	})
	return raw
}

// operatorAddrs lists where operators' nodes may be, those that the charter names first.
func (h *home) operatorAddrs(charter admission.Charter, self workload.PeerID) []string {
	var first, rest []string
	for _, p := range slices.Concat(h.Servers, h.View.Voters, h.View.Standby) {
		switch {
		case p.Peer == self:
		case slices.ContainsFunc(charter.Operators, func(o admission.Operator) bool { return o.Node == p.Peer }):
			first = append(first, withPeer(p.Addrs, p.Peer)...)
		default:
			rest = append(rest, withPeer(p.Addrs, p.Peer)...)
		}
	}
	var out []string
	for _, addr := range slices.Concat(first, h.Contacts, rest) {
		if len(out) < rejoinAddrs && !slices.Contains(out, addr) {
			out = append(out, addr)
		}
	}
	return out
}
