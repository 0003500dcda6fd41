package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/consensus/store"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// clockStep is how far the machine's clock has to be moved for anybody to be told.
const clockStep = time.Minute

// refusalShown is how long a peer's refusal of this node is told to its owner.
const refusalShown = time.Hour

// noticeClock compares the machine's clock with the time that passed, and says
// so when somebody has set it.
func (n *Node) noticeClock() {
	n.mu.Lock()
	defer n.mu.Unlock()
	passed := time.Duration(n.clock.Now()) * time.Millisecond // suspended or not
	drift := time.Now().Round(0).Sub(n.start.Round(0)) - passed
	if by := drift - n.drift; by.Abs() >= clockStep {
		n.drift = drift
		n.clockSet = by.Round(time.Second)
		n.host.ClockWasSet()
		n.log.Warn("the machine's clock was set; leases and timeouts count by another and go on, certificates go by it",
			"by", n.clockSet, "hint", "if that was a mistake, set it right: a node whose clock is off by hours is not admitted")
	}
}

// room returns an error of kind wire.NoSpace when this node's disk is full.
func (n *Node) room() error {
	err := n.store.Room()
	if err == nil {
		return nil
	}
	if errors.Is(err, store.ErrNoSpace) {
		return wire.Errorf(wire.NoSpace, "the disk of %s on %s is full: %v", n.cfg.Data, n.name, err)
	}
	return wire.Errorf(wire.Unavailable, "the disk of %s on %s does not answer", n.cfg.Data, n.name)
}

// cellRoom returns an error of kind wire.NoSpace when this node, or a majority of
// the voters, could not write an entry of the ledger.
func (n *Node) cellRoom() error {
	if err := n.room(); err != nil {
		return err
	}
	voters := n.currentCell().Voters()
	full := slices.DeleteFunc(slices.Clone(voters), func(v workload.PeerID) bool { return !n.isFull(v) })
	if len(full) <= (len(voters)-1)/2 {
		return nil
	}
	names := make([]string, len(full))
	for i, v := range full {
		names[i] = n.people(v)
	}
	return wire.Errorf(wire.NoSpace, "the disks of %s are full, and with them a majority of the voters", strings.Join(names, " and "))
}

// isFull reports whether a member said lately that its disk is full.
func (n *Node) isFull(peer workload.PeerID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	o := n.offers[peer]
	return o.full && time.Since(o.at) < offerValid
}

// people names a member for people.
func (n *Node) people(peer workload.PeerID) (name string) {
	name = peer.Short()
	if c := n.currentCell(); c != nil {
		c.Read(func(s *ledger.State) {
			if m, ok := s.Member(peer); ok {
				name = m.Name
			}
		})
	}
	return name
}

// noticeRoom says once that the disk is full, and once that it is not any more.
func (n *Node) noticeRoom() {
	err := n.room()
	n.mu.Lock()
	was := n.full
	n.full = err != nil
	n.mu.Unlock()
	switch {
	case err != nil && !was:
		n.log.Warn("this node acknowledges nothing new until there is room", "err", err)
	case err == nil && was:
		n.log.Info("there is room on the disk again")
	}
}

// notices are what the owner of this machine should know.
func (n *Node) notices() []string {
	var out []string
	var full *wire.Error
	if errors.As(n.room(), &full) {
		out = append(out, full.Detail+"; this node acknowledges nothing new until there is room")
	}
	out = append(out, n.clocks()...)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.clockSet != 0 {
		out = append(out, fmt.Sprintf("this machine's clock was set by %s while the daemon ran; certificates and invitations go by it", n.clockSet))
	}
	if r := n.host.Refusal(); r != nil && time.Since(r.At) < refusalShown {
		out = append(out, fmt.Sprintf("%s: %.300q", r.At.Local().Format("15:04:05"), r.Reason))
	}
	return append(out, n.machine.advice...)
}

// clocks says whose clocks are not this machine's.
func (n *Node) clocks() []string {
	apart := n.host.Apart()
	if len(apart) == 0 {
		return nil
	}
	names := make([]string, 0, apartNamed)
	for _, a := range apart[:min(len(apart), apartNamed)] {
		names = append(names, fmt.Sprintf("%s %s at %s", n.people(a.Peer), aheadOrBehind(a.By), a.At.Local().Format("15:04:05")))
	}
	if more := len(apart) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return []string{"clocks are not this machine's: " + strings.Join(names, ", ") +
		"; set the wrong ones right: certificates, invitations and signed workloads go by them"}
}

// apartNamed is how many nodes whose clocks differ are named.
const apartNamed = 3

// aheadOrBehind says where another clock is.
func aheadOrBehind(by time.Duration) string {
	if by < 0 {
		return by.Abs().Round(time.Second).String() + " behind"
	}
	return by.Round(time.Second).String() + " ahead"
}
