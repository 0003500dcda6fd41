package scenario

import (
	"maps"
	"slices"
	"strings"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

// Fault is something that breaks at a time, for a while.
type Fault struct {
	Kind    string   `json:"kind"`
	At      int64    `json:"at"`                // ns
	For     int64    `json:"for,omitempty"`     // ns; 0 is until the end
	Crash   string   `json:"crash,omitempty"`   // Leaders, Voters or Everybody
	Share   int64    `json:"share,omitempty"`   // ppm of those whom it may hit that it hits
	Regions []string `json:"regions,omitempty"` // where; none is everywhere
	OneWay  bool     `json:"one_way,omitempty"` // of Cut: only what the regions send is lost
	Times   int64    `json:"times,omitempty"`   // permille, of Slow and Disk
	Rate    int64    `json:"rate,omitempty"`    // ppm of packets, of Loss; of messages, of Duplicate
	By      int64    `json:"by,omitempty"`      // ns, of Reorder
}

// The kinds of faults. Crash ends the processes of peers, which start again when
// it is over. Freeze stops the leaders of cells for a while, which then go on as if
// nothing had been. Cut parts regions from all others: what is sent across is lost.
// Slow makes CPUs, and Disk the disks of logs, so many times slower. Loss loses
// packets of every link with an end in the regions; Duplicate has so many messages
// arrive twice there, and Reorder holds each back by up to By, so that later ones overtake.
const (
	Crash  = "crash"
	Freeze = "freeze"
	Cut    = "cut"
	Slow   = "slow"
	Disk   = "disk"
	Loss   = "loss"

	Duplicate = "duplicate"
	Reorder   = "reorder"
)

// Whom a crash hits: the leaders of cells, their voters, or any peer.
const (
	Leaders   = "leaders"
	Voters    = "voters"
	Everybody = "peers"
)

// faultFields says which fields a kind of fault has beside at and for.
var faultFields = map[string][]string{
	Crash: {"share", "regions"}, Freeze: {"share", "regions"}, Cut: {"one_way"}, Slow: {"share", "regions"}, Disk: {"share", "regions"}, Loss: {"regions"},
	Duplicate: {"regions"}, Reorder: {"regions"},
}

const maxFaults = 1024

func (r *reader) faults(n *document.Node, s *Scenario) {
	for _, item := range r.list("faults", n, maxFaults) {
		f := Fault{Share: million}
		kinds := map[string]field{
			Crash: func(n *document.Node) {
				if f.Crash = n.Text; !slices.Contains([]string{Leaders, Voters, Everybody}, f.Crash) {
					r.fail(n.Pos, "write leaders, voters or peers", "faults.crash: there are no %s", shown(n))
				}
			},
			Freeze: func(n *document.Node) {
				if n.Text != Leaders {
					r.fail(n.Pos, "write leaders", "faults.freeze: only leaders freeze, not %s", shown(n))
				}
			},
			Cut:  func(n *document.Node) { r.names("faults.cut", n, &f.Regions) },
			Slow: r.figure("faults.slow", times, 1001, 1_000_000, func(v float64) { f.Times = int64(v) }),
			Disk: r.figure("faults.disk", times, 1001, 1_000_000, func(v float64) { f.Times = int64(v) }),
			Loss: r.figure("faults.loss", percent, 1, million*9/10, func(v float64) { f.Rate = int64(v) }),

			Duplicate: r.figure("faults.duplicate", percent, 1, million, func(v float64) { f.Rate = int64(v) }),
			Reorder:   r.duration("faults.reorder", ms, 60*second, &f.By),
		}
		readers := map[string]field{
			"at":      r.duration("faults.at", 0, 24*365*hour, &f.At),
			"for":     r.duration("faults.for", ms, 24*365*hour, &f.For),
			"share":   r.figure("faults.share", percent, 1, million, func(v float64) { f.Share = int64(v) }),
			"regions": func(n *document.Node) { r.names("faults.regions", n, &f.Regions) },
			"one_way": r.truth("faults.one_way", &f.OneWay),
		}
		for kind, read := range kinds {
			readers[kind] = func(n *document.Node) {
				if f.Kind != "" {
					r.fail(n.Pos, "write two faults", "faults: %s and %s in one", f.Kind, kind)
				}
				f.Kind = kind
				read(n)
			}
		}
		before := len(r.errs)
		if r.fields(item, "faults", readers); len(r.errs) > before {
			continue
		}
		r.faultFields(item, &f, slices.Sorted(maps.Keys(kinds)))
		s.Faults = append(s.Faults, f)
	}
}

// faultFields refuses what is missing or of another kind.
func (r *reader) faultFields(n *document.Node, f *Fault, kinds []string) {
	switch {
	case n.Kind != document.Map:
		return
	case f.Kind == "":
		r.fail(n.Pos, "write one of "+strings.Join(kinds, ", "), "faults: it does not say what breaks")
		return
	case n.Get("at") == nil:
		r.fail(n.Pos, "write at: 20s", "faults: at is missing")
	}
	for _, name := range []string{"share", "regions", "one_way"} {
		if at := n.Get(name); at != nil && !slices.Contains(faultFields[f.Kind], name) {
			r.fail(at.Pos, "leave it out", "faults.%s: a fault of kind %s has none", name, f.Kind)
		}
	}
}

// names reads a list of one or more names, or one.
func (r *reader) names(where string, n *document.Node, to *[]string) {
	items := []*document.Node{n}
	if n.Kind == document.List {
		items = r.list(where, n, maxRegions)
	}
	for _, item := range items {
		var name string
		r.text(where, &name)(item)
		*to = append(*to, name)
	}
	if len(items) == 0 {
		r.fail(n.Pos, "", "%s: want one or more", where)
	}
}

// truth reads true or false.
func (r *reader) truth(name string, to *bool) field {
	return func(n *document.Node) {
		if n.Kind != document.Bool {
			r.fail(n.Pos, "", "%s: want true or false, got %s", name, shown(n))
			return
		}
		*to = n.Text == "true"
	}
}

// checkFaults refuses faults of regions that there are not, and such as leave
// nothing to break.
func (r *reader) checkFaults(root *document.Node, s *Scenario) {
	known := make([]string, len(s.Network.Regions))
	for i := range s.Network.Regions {
		known[i] = s.Network.Regions[i].Name
	}
	for i, f := range s.Faults {
		at := root.Get("faults").Items[i].Pos
		for _, name := range f.Regions {
			if slices.Contains(known, name) {
				continue
			}
			hint := "the regions are " + strings.Join(known[:min(len(known), 30)], ", ")
			if near := document.Nearest(name, known); near != "" {
				hint = "did you mean " + near + "?"
			}
			r.fail(at, hint, "faults: there is no region %.60q", name)
		}
		switch {
		case f.At >= s.Duration:
			r.fail(at, "", "faults: number %d begins after the end", i+1)
		case f.Kind == Cut && len(f.Regions) >= len(known):
			r.fail(at, "name fewer", "faults: a cut of every region leaves nobody on the other side")
		}
	}
}

// Attackers is a share of the peers that do not play by the rules.
type Attackers struct {
	Name   string `json:"name"`
	Share  int64  `json:"share"`  // ppm of the peers
	Does   string `json:"does"`   // see Refuses and so on
	Below  int64  `json:"below"`  // ppm that it asks less than its price
	Claims int64  `json:"claims"` // cores that it says it has for each one, of Oversells

	Above      int64 `json:"above,omitempty"`      // ppm that it asks more, of Colludes and Forges
	Together   bool  `json:"together,omitempty"`   // all return the same wrong result, of Lies
	Identities int64 `json:"identities,omitempty"` // of one machine, of Sybils
	Known      bool  `json:"known,omitempty"`      // they have one operator's certificates, of Sybils
}

// What attackers do with an award that they underbid for: refuse it; take it and
// report at once that the node failed; take it and never be heard of again about
// it; renew its lease for ever and return no result; run it on cores that they sold
// several times; run it and say that it took as long as it was allowed to; run it and
// return a wrong result; sell one machine under several names, each of which has all of
// it; or, where it leads a cell, leave honest offers out as long as an accomplice has
// room, or award to an accomplice that did not win. Free riders submit, and sell and
// serve nothing.
const (
	Refuses     = "refuse"
	Fails       = "fail"
	Vanishes    = "vanish"
	Withholds   = "withhold"
	Oversells   = "oversell"
	Overcharges = "overcharge"
	Lies        = "lie"
	Sybils      = "sybil"
	Colludes    = "collude"
	Forges      = "forge"
	FreeRides   = "free-ride"
)

var attacks = []string{Refuses, Fails, Vanishes, Withholds, Oversells, Overcharges, Lies, Sybils, Colludes, Forges, FreeRides}

// attackFields says whose field is whose.
var attackFields = map[string][]string{
	"claims": {Oversells}, "above": {Colludes, Forges}, "together": {Lies}, "identities": {Sybils}, "known": {Sybils},
}

const maxAttackers = 64

func (r *reader) attackers(n *document.Node, s *Scenario) {
	for _, item := range r.list("attackers", n, maxAttackers) {
		a := Attackers{Below: million / 2, Claims: 1}
		r.fields(item, "attackers", map[string]field{
			"name":  r.text("attackers.name", &a.Name),
			"share": r.figure("attackers.share", percent, 0, million, func(v float64) { a.Share = int64(v) }),
			"does": func(n *document.Node) {
				if a.Does = n.Text; !slices.Contains(attacks, a.Does) {
					r.fail(n.Pos, "write one of "+strings.Join(attacks, ", "), "attackers.does: there is no %s", shown(n))
				}
			},
			"below":  r.figure("attackers.below", percent, 0, million-1, func(v float64) { a.Below = int64(v) }),
			"claims": r.whole("attackers.claims", 2, 64, func(v int64) { a.Claims = v }),

			"above":      r.figure("attackers.above", percent, 0, million, func(v float64) { a.Above = int64(v) }),
			"together":   r.truth("attackers.together", &a.Together),
			"identities": r.whole("attackers.identities", 2, 64, func(v int64) { a.Identities = v }),
			"known":      r.truth("attackers.known", &a.Known),
		})
		r.attackerFields(item, &a)
		s.Attackers = append(s.Attackers, a)
	}
}

func (r *reader) attackerFields(n *document.Node, a *Attackers) {
	switch {
	case n.Kind != document.Map:
		return
	case a.Does == "":
		r.fail(n.Pos, "write does: "+strings.Join(attacks, ", does: "), "attackers: does is missing")
	case n.Get("share") == nil:
		r.fail(n.Pos, "write share: 10%", "attackers: share is missing")
	case a.Does == Oversells && a.Claims == 1:
		a.Claims = 4
	case a.Does == Sybils && a.Identities == 0:
		a.Identities = 4
	case (a.Does == Colludes || a.Does == Forges) && n.Get("below") == nil:
		a.Below = 0
	}
	for _, name := range []string{"claims", "above", "together", "identities", "known"} {
		if at := n.Get(name); at != nil && a.Does != "" && !slices.Contains(attackFields[name], a.Does) {
			r.fail(at.Pos, "leave it out, or write does: "+attackFields[name][0], "attackers.%s: who does %s has none", name, a.Does)
		}
	}
	if n.Get("above") != nil && n.Get("below") != nil {
		r.fail(n.Get("above").Pos, "keep one of them", "attackers: above and below in one")
	}
	if a.Name == "" {
		a.Name = a.Does
	}
}

// checkAttackers refuses shares beyond all peers.
func (r *reader) checkAttackers(root *document.Node, s *Scenario) {
	var sum int64
	for i, a := range s.Attackers {
		at := root.Get("attackers").Items[i].Pos
		if sum += a.Share; sum > million {
			r.fail(at, "make a share smaller", "attackers: the shares are %g %% together", float64(sum)/10_000)
		}
		for k := range s.Machines {
			if m := &s.Machines[k]; m.Cores*int(a.Claims) > maxClaimed {
				r.fail(at, "claim less", "attackers.claims: %s would say that it has %d cores, at most %d", m.Name, m.Cores*int(a.Claims), maxClaimed)
			}
		}
	}
}

// maxClaimed is as many cores as an allocator takes.
const maxClaimed = workload.MaxCPUs
