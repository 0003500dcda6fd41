package ucantest

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	did "github.com/MetaMask/go-did-it"
	ucaned25519 "github.com/MetaMask/go-did-it/crypto/ed25519"
	didkey "github.com/MetaMask/go-did-it/verifiers/did-key"
	"github.com/ipfs/go-cid"
	"github.com/ipld/go-ipld-prime/node/basicnode"
	"github.com/ucan-wg/go-ucan/pkg/command"
	"github.com/ucan-wg/go-ucan/pkg/policy"
	"github.com/ucan-wg/go-ucan/token/delegation"
	"github.com/ucan-wg/go-ucan/token/invocation"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/rights"
)

// peer is one identity, as both sides know it.
type peer struct {
	key  ed25519.PrivateKey
	id   workload.PeerID
	ucan ucaned25519.PrivateKey
	did  did.DID
}

func newPeer(t *testing.T, seed byte) peer {
	t.Helper()
	raw := slices.Repeat([]byte{seed}, ed25519.SeedSize)
	key := ed25519.NewKeyFromSeed(raw)
	theirs, err := ucaned25519.PrivateKeyFromSeed(raw)
	if err != nil {
		t.Fatal(err)
	}
	return peer{key, workload.PeerIDOf(key.Public().(ed25519.PublicKey)), theirs, didkey.FromPrivateKey(theirs)}
}

// link is one delegation of a chain; peers are numbers.
type link struct {
	by, signs, subject, audience int // who is named as its author, and who truly signs
	may                          []rights.Capability
	maxPrice                     int64 // 0 is none
	from, to                     time.Duration
}

// question is a chain and what its holder wants.
type question struct {
	links  []link
	holder int
	want   rights.Capability
	price  int64
}

// draw makes a chain that mostly fits, and is wrong in some way now and then.
func draw(r *rand.Rand, peers int) question {
	rare := func() bool { return r.IntN(40) == 0 }
	someone := func() int { return r.IntN(peers) }
	order := r.Perm(peers)
	n := 1 + r.IntN(peers-1)
	q := question{holder: order[n], want: rights.All()[r.IntN(3)], price: int64(1 + r.IntN(20))}
	may, limit, to := rights.All(), int64(0), 100*time.Hour
	for i := range n {
		if r.IntN(3) == 0 && len(may) > 1 {
			may = slices.Clone(may)
			may = slices.Delete(may, r.IntN(len(may)), len(may))
			if len(may) == 0 {
				may = rights.All()[:1]
			}
		}
		if r.IntN(3) == 0 {
			limit = int64(1 + r.IntN(20))
		}
		to -= time.Duration(r.IntN(3)) * time.Hour
		l := link{by: order[i], subject: order[0], audience: order[i+1], may: may, maxPrice: limit, from: -time.Hour, to: to}
		if rare() {
			l.by = someone()
		}
		l.signs = l.by
		if rare() {
			l.signs = someone()
		}
		if rare() {
			l.subject = someone()
		}
		if rare() {
			l.audience = someone()
		}
		if rare() {
			l.from = time.Hour
		}
		if rare() {
			l.from, l.to = -3*time.Hour, -time.Hour
		}
		if rare() {
			l.may = rights.All()
		}
		q.links = append(q.links, l)
	}
	if rare() {
		q.holder = someone()
	}
	return q
}

// ours is Perrin's verdict.
func ours(peers []peer, q question, now time.Time) error {
	mesh := workload.MeshID{1}
	var chain []workload.Signed
	for _, l := range q.links {
		d := rights.Delegation{
			Version: rights.Version(), Mesh: mesh, Subject: peers[l.subject].id, Audience: peers[l.audience].id, May: l.may,
			Limits: workload.TokenLimits{MaxPrice: l.maxPrice}, NotBefore: now.Add(l.from).UnixMilli(), Expires: now.Add(l.to).UnixMilli(),
		}
		payload, err := json.Marshal(d)
		if err != nil {
			return err
		}
		s := workload.Sign(workload.DomainToken, payload, peers[l.signs].key)
		s.By = peers[l.by].id
		chain = append(chain, s)
	}
	g, err := rights.Open(chain, mesh, rights.Reader{
		Decode: func(raw []byte, v any) error { return json.Unmarshal(raw, v) },
		Verify: func(d workload.Domain, s workload.Signed) error { return s.Verify(d) },
	})
	if err != nil {
		return err
	}
	if err := g.Allows(peers[q.holder].id, q.want, now.UnixMilli()); err != nil {
		return err
	}
	if limit := g.Limits().MaxPrice; limit > 0 && q.price > limit {
		return fmt.Errorf("a price of %d, the limit is %d", q.price, limit)
	}
	return nil
}

// proofs is a loader of go-ucan.
type proofs map[cid.Cid]*delegation.Token

func (p proofs) GetDelegation(c cid.Cid) (*delegation.Token, error) {
	if t := p[c]; t != nil {
		return t, nil
	}
	return nil, delegation.ErrDelegationNotFound
}

// theirs is go-ucan's verdict of the same. A command stands for each capability: a
// link that does not give it gives another.
func theirs(peers []peer, q question, now time.Time) error {
	known := proofs{}
	var chain []cid.Cid // the last link first
	for i, l := range q.links {
		cmd := command.MustParse("/other")
		if slices.Contains(l.may, q.want) {
			cmd = command.MustParse("/" + string(q.want))
		}
		var limits policy.Policy
		if l.maxPrice > 0 {
			limits = policy.MustConstruct(policy.LessThanOrEqual(".price", basicnode.NewInt(l.maxPrice)))
		}
		options := []delegation.Option{
			delegation.WithExpiration(now.Add(l.to)), delegation.WithNonce([]byte{byte(i), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}),
		}
		if l.from > 0 { // go-ucan makes no token that has begun, nor one that has ended
			options = append(options, delegation.WithNotBefore(now.Add(l.from)))
		}
		token, err := delegation.New(peers[l.by].did, peers[l.audience].did, cmd, limits, peers[l.subject].did, options...)
		if err != nil {
			return err
		}
		sealed, _, err := token.ToSealed(peers[l.signs].ucan)
		if err != nil {
			return err
		}
		opened, id, err := delegation.FromSealed(sealed)
		if err != nil {
			return err
		}
		known[id] = opened
		chain = slices.Insert(chain, 0, id)
	}
	wish, err := invocation.New(peers[q.holder].did, command.MustParse("/"+string(q.want)), peers[q.links[0].subject].did, chain,
		invocation.WithArgument("price", q.price))
	if err != nil {
		return err
	}
	return wish.ExecutionAllowed(known)
}

// stricter are the reasons for which Perrin refuses what UCAN takes, by design: see the
// package comment of rights.
var stricter = []error{rights.ErrWidens, rights.ErrLoop, rights.ErrDepth}

// TestSameVerdicts draws chains. What go-ucan refuses, Perrin refuses; what go-ucan
// allows, Perrin allows, or refuses for a reason that is stricter by design.
func TestSameVerdicts(t *testing.T) {
	var peers []peer
	for i := range 11 {
		peers = append(peers, newPeer(t, byte(i+1)))
	}
	now := time.Now()
	counts := map[string]int{}
	for seed := range uint64(1500) {
		q := draw(rand.New(rand.NewPCG(seed, 1)), len(peers))
		mine, other := ours(peers, q, now), theirs(peers, q, now)
		switch {
		case mine == nil && other == nil:
			counts["both allow"]++
		case mine != nil && other != nil:
			counts["both refuse"]++
		case slices.ContainsFunc(stricter, func(e error) bool { return errors.Is(mine, e) }):
			counts["stricter by design"]++
		default:
			t.Errorf("seed %d: ours %v, theirs %v: %+v", seed, mine, other, q)
		}
	}
	t.Log(counts)
	if counts["both allow"] < 100 || counts["both refuse"] < 100 || counts["stricter by design"] < 10 {
		t.Errorf("the draw is lopsided: %v", counts)
	}
}
