package ledger

import (
	"maps"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// Standing is what a node did for one issuer, who paid for the workloads that it
// is about, in thousandths of a workload. Both fade by half in standingHalf.
//
// Over all issuers they are the parameters of a Beta distribution (Jøsang and
// Ismail, "The beta reputation system", 2002), from a prior of one of each. What
// one issuer says is bounded, so that none alone makes or breaks a name.
type Standing struct {
	Node   workload.PeerID `cbor:"1,keyasint"`
	Issuer workload.PeerID `cbor:"2,keyasint"`
	Good   int64           `cbor:"3,keyasint"` // workloads for which it returned results that count
	Bad    int64           `cbor:"4,keyasint"` // those that it lost or failed, and ten for each in which its result was not the accepted one
	At     int64           `cbor:"5,keyasint"` // ms, up to when they have faded

	// Streak is how many results in a row agreed with those of other operators' nodes
	// under VerifyBy, on this issuer's own work. It is zero after one that did not.
	Streak int64 `cbor:"6,keyasint,omitempty"`
}

// The rule of standings, in thousandths of a workload and ms.
const (
	standingOne    = 1000
	standingWrong  = 10 * standingOne // for results that were not the accepted ones
	standingMost   = 2 * standingOne  // that one issuer's good and bad come to
	standingKnown  = 3 * standingOne  // below that in all a node is on probation
	standingHalf   = int64(7 * 24 * 3600 * 1000)
	maxIssuers     = 16     // of a node: the one with the least to say goes
	MaxStandings   = 16_384 // nodes; another one is not remembered
	MaxStandingPPM = 250_000
)

// Name is a node's reputation.
type Name struct {
	Good, Bad int64 // thousandths of a workload, faded
	Issuers   int   // who paid for them
	MeanPPM   int64 // expected share of its workloads that end well: (good+1)/(good+bad+2)
	Probation bool  // too little is known
	// RiskPPM is what a leader adds to the cost of its bids: 0 while nothing bad is
	// known, and never over MaxStandingPPM.
	RiskPPM int64
}

// fade returns the standing as of a later time.
func (x Standing) fade(now int64) Standing {
	age := now - x.At
	if age <= 0 {
		return x
	}
	halves := min(age/standingHalf, 62)
	rest := age % standingHalf
	for _, v := range []*int64{&x.Good, &x.Bad, &x.Streak} {
		*v >>= halves
		*v -= *v * (rest / 1000) / (2 * standingHalf / 1000)
	}
	x.At = now
	return x
}

// Name returns the reputation of a node as of now, in ms.
func (s *State) Name(node workload.PeerID, now int64) Name {
	var n Name
	for _, x := range s.standings[node] {
		x = x.fade(now)
		n.Good, n.Bad, n.Issuers = n.Good+x.Good, n.Bad+x.Bad, n.Issuers+1
	}
	all := n.Good + n.Bad
	n.MeanPPM = (n.Good + standingOne) * 1_000_000 / (all + 2*standingOne)
	n.RiskPPM = n.Bad * MaxStandingPPM / (all + 2*standingOne)
	n.Probation = all < standingKnown
	return n
}

// remember adds what the nodes of a workload did when it ends.
func (s *State) remember(e *entry, l *load) {
	for i := range l.Tallies {
		t := &l.Tallies[i]
		var good, bad int64
		if t.Done > 0 {
			good = standingOne
		}
		if t.Faults > 0 || t.Lost > 0 {
			bad = standingOne
		}
		if t.Differs > 0 {
			bad += standingWrong
		}
		if good+bad > 0 && !t.Node.IsZero() {
			s.addStanding(Standing{Node: t.Node, Issuer: l.payer(), Good: good, Bad: bad, At: e.at})
		}
	}
}

func (s *State) addStanding(x Standing) {
	list := s.standings[x.Node]
	if list == nil && len(s.standings) >= MaxStandings {
		return
	}
	at := slices.IndexFunc(list, func(y Standing) bool { return y.Issuer == x.Issuer })
	if at < 0 && len(list) < maxIssuers {
		at, list = len(list), append(list, Standing{Node: x.Node, Issuer: x.Issuer, At: x.At})
	}
	if at < 0 {
		at = least(list, x.At)
		list[at] = Standing{Node: x.Node, Issuer: x.Issuer, At: x.At}
	}
	y := list[at].fade(x.At)
	y.Good, y.Bad = y.Good+x.Good, y.Bad+x.Bad
	y.Streak = min(y.Streak+x.Streak, workload.MaxStreak*standingOne)
	if sum := y.Good + y.Bad; sum > standingMost {
		y.Good, y.Bad = y.Good*standingMost/sum, y.Bad*standingMost/sum
	}
	list[at] = y
	s.standings[x.Node] = list
}

// faded reports whether nothing is left of what an issuer has to say of a node.
func (x Standing) faded() bool { return x.Good == 0 && x.Bad == 0 && x.Streak == 0 }

// lessSaid orders issuers by how much they have to say of a node. Streaks are cheap to
// make with owners that one makes up, and say nothing against a node: they decide only
// between issuers that have else as much to say.
func lessSaid(x, y Standing) bool {
	if a, b := x.Good+x.Bad, y.Good+y.Bad; a != b {
		return a < b
	}
	return x.Streak < y.Streak
}

// least is the position of the issuer with the least to say, the first of several.
func least(list []Standing, now int64) (at int) {
	for i := range list {
		if lessSaid(list[i].fade(now), list[at].fade(now)) {
			at = i
		}
	}
	return at
}

// forgetStandings drops what has faded to nothing.
func (s *State) forgetStandings(now int64) {
	for _, node := range s.Named() {
		list := slices.DeleteFunc(s.standings[node], func(x Standing) bool { return x.fade(now).faded() })
		if s.standings[node] = list; len(list) == 0 {
			delete(s.standings, node)
		}
	}
}

// allStandings lists what is remembered, by node.
func (s *State) allStandings() (out []Standing) {
	for _, node := range sortedPeers(maps.Keys(s.standings)) {
		out = append(out, s.standings[node]...)
	}
	return out
}

// restoreStandings takes them from a snapshot.
func (s *State) restoreStandings(list []Standing) {
	for _, x := range list {
		s.standings[x.Node] = append(s.standings[x.Node], x)
	}
}

// Named lists the nodes about which anything is remembered, in the order of their keys.
func (s *State) Named() []workload.PeerID { return sortedPeers(maps.Keys(s.standings)) }
