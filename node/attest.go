package node

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/perrin-mesh/perrin/mesh/attest/collect"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/attestor"
	"github.com/perrin-mesh/perrin/workload"
)

// AttestFolder is where, in the data folder, the operator's policy lies:
// certificates of TPM makers, revocation lists, digests of endorsement keys, and
// what is taken of confidential machines. CollateralFolder, in it, keeps what the
// makers of this machine publish to go with its evidence.
const (
	AttestFolder     = "attest"
	CollateralFolder = "collateral"

	provedFile = "proved.json" // to whom this machine proved something
)

// collateralFresh is how old a revocation list or TCB information may be before
// its maker is asked again. They last a month and more.
const collateralFresh = 12 * time.Hour

// openAttestor looks at what the machine can prove.
func (n *Node) openAttestor(context.Context) error {
	machine := n.cfg.Attests
	switch {
	case machine != nil:
	case n.cfg.Given != nil:
		machine = collect.Of()
	default:
		machine = collect.New(collect.Host().With(&collect.Collateral{
			Dir: filepath.Join(n.cfg.Data, AttestFolder, CollateralFolder), Fetch: collect.Web(http.DefaultClient), Fresh: collateralFresh, Now: time.Now,
		}))
	}
	n.attestor = attestor.New(attestor.Config{
		Self: n.self, Open: n.host.OpenStream, Machine: machine, Policy: filepath.Join(n.cfg.Data, AttestFolder), History: filepath.Join(n.cfg.Data, provedFile),
		Sealing: n.sealing.find, Appraise: n.cfg.appraise, Rand: rand.Reader, Now: time.Now, Log: n.log.With("part", "attest"),
	})
	return nil
}

// Attest implements api.Backend.
func (g gateway) Attest(ctx context.Context, name string) (*api.Attest, error) {
	n := g.n
	offers, err := n.offersOfCell(ctx)
	id, called := n.self, n.name
	if name != "" && name != n.name {
		if err != nil {
			return nil, apiError(err)
		}
		if id, err = nodeNamed(offers, name); err != nil {
			return nil, err
		}
	}
	names := map[workload.PeerID]string{n.self: n.name}
	for _, o := range offers {
		names[o.Node] = o.Machine.Name
	}
	if id != n.self {
		called = names[id]
	}
	proof, err := n.attestor.Ask(ctx, id, attestor.Question{})
	if err != nil {
		return nil, attestFailed(err)
	}
	out := &api.Attest{
		Node: id, Name: called, Self: id == n.self, Appraisal: *proof.Appraisal, Abilities: proof.Abilities, SameRules: proof.SameRules,
		EvidenceBytes: len(proof.Evidence), Policy: filepath.Join(n.cfg.Data, AttestFolder),
	}
	if id == n.self {
		for _, t := range n.attestor.Told() {
			if t.To != n.self {
				out.Told = append(out.Told, api.Told{To: t.To, Name: names[t.To], Kind: t.Kind, Workload: t.Job, At: t.At})
			}
		}
	}
	return out, nil
}

// attestFailed is what a user is told of a question that failed.
func attestFailed(err error) error {
	if errors.Is(err, attestor.ErrPolicy) {
		return &api.Error{Kind: api.Invalid, Message: strings.TrimPrefix(err.Error(), "attest: "), Hint: "mend or remove that file; the daemon reads the folder anew each time"}
	}
	if errors.Is(err, wire.NotFound) {
		return &api.Error{Kind: api.Unavailable, Message: err.Error(), Hint: "that node runs a version without attestation"}
	}
	return apiError(err)
}
