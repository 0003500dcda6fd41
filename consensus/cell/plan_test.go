package cell

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/perrin-mesh/perrin/workload"
)

// sim is a cell that does what Plan says: changes commit at once, a standby
// that lives catches up within a second, copies take as long, and when the
// leader dies a majority elects another one.
type sim struct {
	now    int64
	index  uint64
	self   string
	since  int64
	solo   bool
	limits Limits
	nodes  map[string]*simNode
	frozen bool // nothing catches up
}

type simNode struct {
	Member
	member, server, voter bool
	caughtUp, copied      bool
	alive                 bool
	contact               int64
}

func newSim() *sim {
	return &sim{now: 1_000_000, solo: true, limits: DefaultLimits(), nodes: map[string]*simNode{}}
}

func peerID(name string) workload.PeerID {
	var p workload.PeerID
	copy(p[:], name)
	return p
}

func nameOf(p workload.PeerID) string { return strings.TrimRight(string(p[:]), "\x00") }

func (s *sim) join(name string) *simNode {
	n := &simNode{member: true, alive: true}
	n.Member = Member{ID: peerID(name), Up: s.now, Seen: s.now, Direct: true, Settled: true}
	if len(s.nodes) == 0 {
		n.server, n.voter, n.caughtUp, n.copied = true, true, true, true
		s.self, s.since = name, s.now
	}
	s.nodes[name] = n
	return n
}

func (s *sim) names() []string {
	var out []string
	for name := range s.nodes {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// view shows the cell in an order that Plan must not depend on.
func (s *sim) view() View {
	v := View{Self: peerID(s.self), Since: s.since, Index: s.index, Solo: s.solo, Limits: s.limits}
	for _, name := range s.names() {
		n := s.nodes[name]
		if n.member {
			v.Members = append([]Member{n.Member}, v.Members...)
		}
		if n.server {
			v.Servers = append(v.Servers, Server{ID: n.ID, Voter: n.voter, Contact: n.contact, CaughtUp: n.caughtUp, Copied: n.copied})
		}
	}
	return v
}

// pass lets ms go by.
func (s *sim) pass(ms int64) {
	s.now += ms
	for _, n := range s.nodes {
		if !n.alive {
			n.caughtUp = false
			continue
		}
		n.Seen = s.now
		if n.server {
			n.contact, n.caughtUp = s.now, n.caughtUp || !s.frozen
		}
	}
	s.elect()
}

// elect finds a leader when the old one is gone and a majority is there.
func (s *sim) elect() {
	if old := s.nodes[s.self]; old != nil && old.alive && old.voter {
		return
	}
	if !s.majority() {
		return
	}
	for _, name := range s.names() {
		if n := s.nodes[name]; n.alive && n.voter && !n.Draining {
			s.self, s.since = name, s.now
			return
		}
	}
}

// majority reports whether a majority of the voters lives.
func (s *sim) majority() bool {
	alive, voters := 0, 0
	for _, n := range s.nodes {
		if n.voter {
			voters++
			alive += whole(n.alive)
		}
	}
	return 2*alive > voters
}

// do carries an action out.
func (s *sim) do(a Action) error {
	n := s.nodes[nameOf(a.Node)]
	if a.Verb.changes() && a.Prev != s.index {
		return fmt.Errorf("%s at index %d, want %d", a.Verb, a.Prev, s.index)
	}
	if a.Verb.changes() && a.Verb != Retime && a.Verb != Transfer {
		s.index++
	}
	switch a.Verb {
	case Retime:
		s.solo = false
		return nil
	case AddNonvoter:
		if n.server || s.solo {
			return fmt.Errorf("%s %s: solo=%v", a.Verb, nameOf(a.Node), s.solo)
		}
		n.server, n.caughtUp, n.copied = true, false, false
	case AddVoter:
		if !n.server || !n.alive || !n.caughtUp || !n.copied || s.solo {
			return fmt.Errorf("%s %s: %+v", a.Verb, nameOf(a.Node), *n)
		}
		n.voter = true
	case Demote:
		n.voter = false
	case Remove:
		n.server, n.voter, n.caughtUp, n.copied = false, false, false, false
	case Transfer:
		if !n.voter || !n.alive {
			return fmt.Errorf("%s %s, which is no voter or dead", a.Verb, nameOf(a.Node))
		}
		s.self, s.since = nameOf(a.Node), s.now
	case Copy:
		n.copied = n.copied || !s.frozen
	case Evict:
		if n.server || !n.Settled {
			return fmt.Errorf("%s %s, which is a server or holds slots", a.Verb, nameOf(a.Node))
		}
		n.member = false
	}
	if a.Node == peerID(s.self) && !n.voter {
		return fmt.Errorf("%s takes the vote of the leader", a.Verb)
	}
	return nil
}

func describeAction(a Action) string {
	return strings.TrimSpace(fmt.Sprintf("%s %s", a.Verb, nameOf(a.Node))) + " (" + a.Why + ")"
}

// summary prints who leads, votes and stands by.
func (s *sim) summary() string {
	var voters, standbys []string
	for _, name := range s.names() {
		switch n := s.nodes[name]; {
		case n.voter:
			voters = append(voters, name)
		case n.server:
			standbys = append(standbys, name)
		}
	}
	return fmt.Sprintf("leader %s voters %v standbys %v\n", s.self, voters, standbys)
}

// TestTranscripts runs the stories under testdata. `node` adds or changes nodes,
// `plan` shows what Plan says once, `run` does what it says until it says
// nothing more. `go test -rewrite` writes what happens now.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := newSim()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			return s.directive(t, d)
		})
	})
}

func (s *sim) directive(t *testing.T, d *datadriven.TestData) string {
	var b strings.Builder
	switch d.Cmd {
	case "node":
		for _, line := range strings.Split(d.Input, "\n") {
			s.change(t, strings.Fields(line))
		}
	case "frozen":
		s.frozen = !s.frozen
	case "pass":
		ms, err := strconv.ParseInt(d.CmdArgs[0].Key, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		s.pass(ms)
	case "plan":
		for _, a := range Plan(s.now, s.view()) {
			b.WriteString(describeAction(a) + "\n")
		}
	case "run":
		for range 60 {
			s.pass(1000)
			if !s.majority() {
				return b.String() + "no majority\n"
			}
			for _, a := range Plan(s.now, s.view()) {
				if line := describeAction(a) + "\n"; !strings.HasSuffix(b.String(), line) {
					b.WriteString(line)
				}
				if err := s.do(a); err != nil {
					t.Fatalf("%s: %v", d.Pos, err)
				}
			}
		}
		b.WriteString(s.summary())
	default:
		t.Fatalf("%s: no directive %q", d.Pos, d.Cmd)
	}
	return b.String()
}

// change reads NAME and words and name=value pairs.
func (s *sim) change(t *testing.T, words []string) {
	n := s.nodes[words[0]]
	if n == nil {
		n = s.join(words[0])
	}
	for _, w := range words[1:] {
		name, value, _ := strings.Cut(w, "=")
		number, _ := strconv.ParseInt(value, 10, 64)
		switch name {
		case "dead":
			n.alive = false
		case "back":
			n.alive, n.Up = true, s.now
		case "hidden":
			n.Direct = false
		case "draining":
			n.Draining = true
		case "stays":
			n.Draining = false
		case "leaving":
			n.Draining, n.Leaving = true, true
		case "holds-slots":
			n.Settled = false
		case "settled":
			n.Settled = true
		case "zone":
			n.Zone = value
		case "network":
			n.Network = value
		case "operator":
			n.Operator = peerID(value)
		case "up":
			n.Up = s.now - number
		case "rtt":
			n.RTT = number
		default:
			t.Fatalf("no word %q", w)
		}
	}
}

func TestVotersByMembers(t *testing.T) {
	l := DefaultLimits()
	for members, want := range []int{1, 1, 1, 3, 3, 3, 3, 5, 5, 5, 5, 5, 5} {
		if got := l.Voters(members); got != want {
			t.Errorf("%d members: %d voters, want %d", members, got, want)
		}
	}
	l.MaxVoters = 7
	if a, b := l.Voters(10), l.Voters(11); a != 5 || b != 7 {
		t.Errorf("up to seven: %d and %d, want 5 and 7", a, b)
	}
	l.MaxVoters = 1
	if got := l.Voters(128); got != 1 {
		t.Errorf("up to one: %d", got)
	}
}

func TestLimitsValidate(t *testing.T) {
	if err := DefaultLimits().Validate(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Limits){
		"even":     func(l *Limits) { l.MaxVoters = 4 },
		"too many": func(l *Limits) { l.MaxVoters = 9 },
		"standbys": func(l *Limits) { l.Standbys = -1 },
		"order":    func(l *Limits) { l.DeadAfter = l.Fresh - 1 },
		"settle":   func(l *Limits) { l.Settle = -1 },
	} {
		l := DefaultLimits()
		if spoil(&l); l.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestPendingChangeBlocksTheNext(t *testing.T) {
	s := newSim()
	for _, name := range []string{"a", "b", "c"} {
		s.join(name)
	}
	s.pass(5000)
	v := s.view()
	if plan := Plan(s.now, v); len(plan) != 1 || plan[0].Verb != Retime {
		t.Fatalf("%v, want one retime", plan)
	}
	v.Pending = true
	if plan := Plan(s.now, v); len(plan) != 0 {
		t.Errorf("%v while a change is pending", plan)
	}
}

func TestRankPrefersNearSmallAndMixedCells(t *testing.T) {
	id := func(b byte) workload.CellID { return workload.CellID{b} }
	got := Rank([]Candidate{
		{Cell: id('f'), Members: 128, MaxSize: 128, RTT: 100},
		{Cell: id('c'), Members: 20, MaxSize: 128, RTT: 30_000},
		{Cell: id('b'), Members: 20, MaxSize: 128, RTT: 10_000},
		{Cell: id('h'), Members: 100, MaxSize: 128, RTT: 10_000},
		{Cell: id('d'), Members: 20, MaxSize: 128, RTT: 10_000, Alike: 60},
		{Cell: id('a'), Members: 1, MaxSize: 128, RTT: 80_000},
		{Cell: id('g'), Members: 20, MaxSize: 128},
	})
	order := ""
	for _, c := range got {
		order += string(rune(c.Cell[0]))
	}
	if want := "abcdhg"; order != want {
		t.Errorf("order %s, want %s", order, want)
	}
	if !slices.IsSortedFunc(got, func(a, b Candidate) int {
		sa, _ := a.Score()
		sb, _ := b.Score()
		return cmp.Compare(sa, sb)
	}) {
		t.Error("not in order of score")
	}
}
