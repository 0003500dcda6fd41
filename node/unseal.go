package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/attestor"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/seal"
)

// How long a worker asks for a key, and each of those it asks.
const (
	unsealPatience = 60 * time.Second
	unsealCall     = 8 * time.Second
)

// sealingKeys are the public keys of this node's attempts that wait for a
// content key. Its methods may be called from any goroutine.
type sealingKeys struct {
	mu   sync.Mutex
	keys map[sealingKey][]byte
}

type sealingKey struct {
	job workload.ID
	key workload.Digest // attest.SealingKey
}

// add lets evidence bind a key until the returned function is called.
func (s *sealingKeys) add(job workload.ID, public []byte) (remove func()) {
	key := sealingKey{job, attest.SealingKey(public)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.keys = map[sealingKey][]byte{}
	}
	s.keys[key] = public
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.keys, key)
	}
}

// find implements attestor.Config.Sealing.
func (s *sealingKeys) find(job workload.ID, key workload.Digest) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[sealingKey{job, key}]
}

// unsealer implements worker.Unsealer over the mesh.
type unsealer struct{ n *Node }

// Unseal implements worker.Unsealer. It asks the owner's node, and the helpers
// when that one is not to be reached, again and again for a minute.
func (u unsealer) Unseal(ctx context.Context, signed workload.Signed, ref wire.SlotRef) (*seal.Key, error) {
	spec, err := u.n.sealedSpec(ref.Workload, signed)
	if err != nil {
		return nil, err
	}
	r, err := seal.NewRecipient()
	if err != nil {
		return nil, err
	}
	defer u.n.sealing.add(ref.Workload, r.Public())()
	ask := &asking{n: u.n, spec: spec, r: r, msg: wire.UnsealMsg{Ref: ref, Spec: signed, Public: r.Public()}}
	ctx, cancel := context.WithTimeout(ctx, unsealPatience)
	defer cancel()
	for {
		k, err := ask.owner(ctx)
		if err != nil && errors.Is(err, wire.Unavailable) && spec.Seal.Need > 0 {
			k, err = ask.helpers(ctx)
		}
		if err == nil || !errors.Is(err, wire.Unavailable) && !errors.Is(err, wire.Busy) {
			return k, err
		}
		if !pause(ctx, time.Second) {
			return nil, fmt.Errorf("its owner's node and helpers are not there: %w", err)
		}
	}
}

// asking is one attempt's way to its key.
type asking struct {
	n    *Node
	spec *workload.Spec
	r    *seal.Recipient
	msg  wire.UnsealMsg
}

// of asks one node, which may ask for evidence before it answers.
func (a *asking) of(ctx context.Context, peer workload.PeerID, share bool) ([]byte, *seal.Binding, error) {
	within := unsealCall
	if a.spec.Require != nil {
		within += attestor.Patience
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	b := bindingOf(a.msg.Ref, peer, a.n.self, share)
	var answer wire.Unsealed
	err := (caller{a.n}).Call(ctx, peer, wire.ProtoUnseal, &a.msg, &answer)
	return answer.Wrapped, b, err
}

func (a *asking) owner(ctx context.Context) (*seal.Key, error) {
	wrapped, b, err := a.of(ctx, a.spec.Seal.Home, false)
	if err != nil {
		return nil, err
	}
	k, err := a.r.Key(wrapped, b)
	if err == nil && !k.Is(a.spec.Seal.Check) {
		k.Close()
		return nil, fmt.Errorf("%w: the owner's node released another key", seal.ErrSealed)
	}
	return k, err
}

// helpers asks all helpers at once and puts the key together from the shares
// that come.
func (a *asking) helpers(ctx context.Context) (*seal.Key, error) {
	type answer struct {
		wrapped []byte
		b       *seal.Binding
		err     error
	}
	answers := make([]answer, len(a.spec.Seal.Helpers))
	var asked sync.WaitGroup
	for i, h := range a.spec.Seal.Helpers {
		asked.Go(func() {
			x := &answers[i]
			x.wrapped, x.b, x.err = a.of(ctx, h, true)
		})
	}
	asked.Wait()
	var shares []*seal.Share
	defer func() { seal.CloseShares(shares) }()
	var last error
	for _, x := range answers {
		var s *seal.Share
		if x.err == nil {
			s, x.err = a.r.Share(x.wrapped, x.b)
		}
		if x.err != nil {
			last = cmp.Or(last, x.err)
			continue
		}
		shares = append(shares, s)
	}
	if len(shares) < int(a.spec.Seal.Need) {
		return nil, wire.Errorf(wire.Unavailable, "%d of %d helpers released a share, %d are needed: %v", len(shares), len(answers), a.spec.Seal.Need, last)
	}
	return seal.CombineAny(shares, int(a.spec.Seal.Need), a.spec.Seal.Check)
}
