package notary

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/receipt"
)

// TestEvidenceLink has one change after another break the link that says what was
// proved before slots were awarded; the whole cell signs each of them.
func TestEvidenceLink(t *testing.T) {
	pcr := workload.Measurement{Name: "pcr7", Value: bytes.Repeat([]byte{7}, 32)}
	fresh := func(s *workload.Spec) { s.Require = &workload.Require{Level: workload.LevelTPM} }
	young := func(s *workload.Spec) {
		s.Require = &workload.Require{Level: workload.LevelTPM, MaxAge: 60_000, Measurements: []string{pcr.String()}}
	}
	measured := func(p *workload.Proved) { p.Measurements = []workload.Measurement{pcr} }
	for name, tt := range map[string]struct {
		spec   func(*workload.Spec)
		proof  func(*workload.Proved)
		change func(*made, *receipt.Award)
		status receipt.Status
		detail string
	}{
		"fresh":               {spec: fresh, status: receipt.Holds, detail: "2 nodes proved tpm by evidence made for each award, appraised by node1"},
		"young and measured":  {spec: young, proof: measured, status: receipt.Holds, detail: "proved tpm with pcr7="},
		"a level too low":     {fresh, func(p *workload.Proved) { p.Level = workload.LevelNone }, nil, receipt.Fails, "it has no tpm"},
		"contraindicated":     {fresh, func(p *workload.Proved) { p.Status = workload.TierContraindicated }, nil, receipt.Fails, "contraindicated"},
		"not measured":        {spec: young, status: receipt.Fails, detail: "its pcr7 is not one that is wanted"},
		"too old":             {young, func(p *workload.Proved) { measured(p); p.At -= 60_000 }, nil, receipt.Fails, "old, at most 1m0s is wanted"},
		"made for other work": {fresh, func(p *workload.Proved) { p.For = workload.AuctionID{} }, nil, receipt.Fails, "was not made for this workload"},
		"waited too long":     {fresh, func(p *workload.Proved) { p.At -= 90_000 }, nil, receipt.Fails, "is fresh"},
		"no evidence":         {fresh, func(p *workload.Proved) { p.Evidence = workload.Digest{} }, nil, receipt.Fails, "no evidence is named"},
		"shown twice":         {fresh, func(p *workload.Proved) { p.Evidence = workload.Digest{1} }, nil, receipt.Fails, "served award 01020300"},
		"of another auction":  {fresh, func(p *workload.Proved) { p.Auction[3]++ }, nil, receipt.Fails, "of another award"},
		"of another workload": {fresh, func(p *workload.Proved) { p.Workload.Random[1]++ }, nil, receipt.Fails, "of another award"},
		"one missing":         {fresh, nil, func(_ *made, a *receipt.Award) { a.Proofs = a.Proofs[1:] }, receipt.Fails, "no proof of"},
		"all missing":         {fresh, nil, func(_ *made, a *receipt.Award) { a.Proofs = nil }, receipt.Fails, "the owner requires tpm"},
		"one twice":           {young, measured, func(_ *made, a *receipt.Award) { a.Proofs[1] = a.Proofs[0] }, receipt.Fails, "is there twice"},
		"another's signature": {fresh, nil, func(m *made, a *receipt.Award) {
			a.Proofs[0] = workload.Sign(workload.DomainProved, a.Proofs[0].Payload, m.nodes[1])
		}, receipt.Fails, "names another appraiser than its signer"},
		"another domain": {fresh, nil, func(m *made, a *receipt.Award) {
			a.Proofs[0] = workload.Sign(workload.DomainBid, a.Proofs[0].Payload, m.nodes[0])
		}, receipt.Fails, "does not verify"},
		"junk": {fresh, nil, func(m *made, a *receipt.Award) {
			a.Proofs[0] = workload.Sign(workload.DomainProved, []byte("x"), m.nodes[0])
		}, receipt.Fails, "proof 0"},
		"nobody asked":    {func(*workload.Spec) {}, nil, nil, receipt.Fails, "the owner asked for none"},
		"a bid for proof": {fresh, nil, func(_ *made, a *receipt.Award) { a.Proofs[0] = a.Bids[0] }, receipt.Fails, "does not verify"},
	} {
		m := make3(t, 4, 2, time.Now(), tt.spec)
		if tt.proof == nil {
			tt.proof = func(*workload.Proved) {}
		}
		m.prove(tt.proof)
		if tt.change != nil {
			tt.change(m, &m.rec.Awards[0])
		}
		l := link(t, verified(t, m.file().Encode(), m.options()), "evidence")
		if l.Status != tt.status || !strings.Contains(l.Detail, tt.detail) {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

func link(t *testing.T, r *receipt.Report, name string) receipt.Link {
	t.Helper()
	i := slices.IndexFunc(r.Links, func(l receipt.Link) bool { return l.Name == name })
	if i < 0 {
		t.Fatalf("no link %q in %+v", name, r.Links)
	}
	return r.Links[i]
}

// TestWhoMayAppraise: an appraiser is a voter that is known, with a certificate.
func TestWhoMayAppraise(t *testing.T) {
	m := make3(t, 4, 2, time.Now(), func(s *workload.Spec) { s.Require = &workload.Require{Level: workload.LevelTPM} })
	m.prove(func(*workload.Proved) {})
	opt := m.options()
	opt.Voters = nil
	if l := link(t, verified(t, m.file().Encode(), opt), "evidence"); l.Status != receipt.Unchecked || !strings.Contains(l.Detail, "give --voters") {
		t.Errorf("without voters: %+v", l)
	}
	opt.Voters = []workload.PeerID{m.id(1), m.id(2)}
	if l := link(t, verified(t, m.file().Encode(), opt), "evidence"); l.Status != receipt.Fails || !strings.Contains(l.Detail, "none of the voters that you gave") {
		t.Errorf("other voters: %+v", l)
	}
	stranger := make3(t, 1, 1, time.Now())
	p := workload.Proved{}
	if err := wire.Unmarshal(m.rec.Awards[0].Proofs[0].Payload, &p); err != nil {
		t.Fatal(err)
	}
	p.By = stranger.id(0)
	m.rec.Awards[0].Proofs[0] = workload.Sign(workload.DomainProved, wire.MustMarshal(&p), stranger.nodes[0])
	r := verified(t, m.file().Encode(), m.options())
	if l := link(t, r, "evidence"); l.Status != receipt.Fails {
		t.Errorf("a stranger's word: %+v", l)
	}
	if l := link(t, r, "certificates"); l.Status != receipt.Unchecked || !strings.Contains(l.Detail, "no certificate of") {
		t.Errorf("a stranger's word: %+v", l)
	}
}
