package receipt

import (
	"fmt"
	"slices"
	"strings"

	"github.com/perrin-mesh/perrin/workload"
)

// evidence: of each node that got slots somebody who may appraise signed, for that
// award, that its evidence met what the owner requires.
func (c *check) evidence() (string, error) {
	switch {
	case c.specErr != nil:
		return "", c.specErr
	case c.spec.Require == nil:
		return c.noneAsked()
	}
	seen := proofs{evidence: map[workload.Digest]workload.AuctionID{}, nodes: map[workload.PeerID]bool{}}
	for i := range c.rec.Awards {
		if err := c.provedAward(i, &seen); err != nil {
			return "", err
		}
	}
	return c.appraised(&seen)
}

func (c *check) noneAsked() (string, error) {
	for i := range c.rec.Awards {
		if len(c.rec.Awards[i].Proofs) > 0 {
			return "", fmt.Errorf("award %d: it has proofs, and the owner asked for none", i)
		}
	}
	return "none was asked for: nothing is proved about the machines", nil
}

// proofs is what was found in all awards.
type proofs struct {
	evidence map[workload.Digest]workload.AuctionID // where each was used last
	nodes    map[workload.PeerID]bool
	by       []workload.PeerID // who appraised, each once
}

// provedAward checks one award's.
func (c *check) provedAward(i int, seen *proofs) error {
	a := &c.rec.Awards[i]
	met := map[workload.PeerID]bool{}
	for j, signed := range a.Proofs {
		p, err := c.rules.OpenProved(signed)
		if err == nil {
			err = p.Meet(c.spec.Require)
		}
		last, used := seen.evidence[p.Evidence]
		switch {
		case err != nil:
			return fmt.Errorf("award %d, proof %d: %s: %w", i, j, c.name(p.Node), err)
		case p.Workload != c.rec.Workload || p.Auction != workload.AuctionID(a.Auction):
			return fmt.Errorf("award %d, proof %d: of another award", i, j)
		case met[p.Node]:
			return fmt.Errorf("award %d, proof %d: %s is there twice", i, j, c.name(p.Node))
		case used && c.spec.Require.Fresh():
			return fmt.Errorf("award %d, proof %d: %s showed evidence that served award %x before, and each award wants its own", i, j, c.name(p.Node), last)
		}
		met[p.Node], seen.nodes[p.Node], seen.evidence[p.Evidence] = true, true, p.Auction
		if !slices.Contains(seen.by, p.By) {
			seen.by = append(seen.by, p.By)
		}
	}
	for _, s := range a.Slots[:min(int(a.Granted), len(a.Slots))] {
		if !met[s.Node] {
			return fmt.Errorf("award %d: no proof of %s, and the owner requires %s", i, c.name(s.Node), c.spec.Require.Level)
		}
	}
	return nil
}

// appraised says who vouches: a voter of the cell, as far as is known.
func (c *check) appraised(seen *proofs) (string, error) {
	if len(seen.nodes) == 0 {
		return "no node got a slot, so none had to prove anything", nil
	}
	for _, by := range seen.by {
		switch {
		case len(c.opt.Voters) == 0:
			return "", lacking("%s, appraised by %s; that these were voters of the cell is the file's own word: give --voters", c.proven(seen), c.names(seen.by))
		case !slices.Contains(c.opt.Voters, by):
			return "", fmt.Errorf("appraised by %s, which is none of the voters that you gave", c.name(by))
		}
	}
	return fmt.Sprintf("%s, appraised by %s", c.proven(seen), c.names(seen.by)), nil
}

func (c *check) proven(seen *proofs) string {
	what := string(c.spec.Require.Level)
	if len(c.spec.Require.Measurements) > 0 {
		what += " with " + strings.Join(c.spec.Require.Measurements, ", ")
	}
	age := "young enough for the owner when they were awarded slots"
	if c.spec.Require.Fresh() {
		age = "made for each award"
	}
	return fmt.Sprintf("%s proved %s by evidence %s", workload.Counted(len(seen.nodes), "node"), what, age)
}
