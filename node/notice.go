package node

import (
	"fmt"
	"time"
)

// clockStep is how far the machine's clock has to be moved for anybody to be told.
const clockStep = time.Minute

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
		n.log.Warn("the machine's clock was set; leases and timeouts count by another and go on, certificates go by it",
			"by", n.clockSet, "hint", "if that was a mistake, set it right: a node whose clock is off by hours is not admitted")
	}
}

// notices are what the owner of this machine should know.
func (n *Node) notices() []string {
	var out []string
	if err := n.store.Room(); err != nil {
		out = append(out, fmt.Sprintf("the disk of %s is full, so that this node acknowledges nothing new: %v; make room there", n.cfg.Data, err))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.clockSet != 0 {
		out = append(out, fmt.Sprintf("this machine's clock was set by %s while the daemon ran; certificates and invitations go by it", n.clockSet))
	}
	return out
}
