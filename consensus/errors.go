package consensus

import (
	"errors"
	"fmt"

	"github.com/perrin-mesh/perrin/workload"
)

var (
	// ErrNotLeader is returned when the node does not lead the group. Nothing
	// was done. The error is a *NotLeaderError, which may know who leads.
	ErrNotLeader = errors.New("not the leader")
	// ErrUnknownOutcome is returned when an entry was handed to Raft and it is
	// not known whether it will be applied.
	ErrUnknownOutcome = errors.New("outcome unknown")
	// ErrLeadershipLost is returned when the node stopped leading while the
	// entry was on its way. It comes with ErrUnknownOutcome.
	ErrLeadershipLost = errors.New("leadership lost")
	// ErrStopped is returned when the group is closed.
	ErrStopped = errors.New("group is stopped")
	// ErrBusy is returned when Config.MaxPending proposals wait already.
	ErrBusy = errors.New("too many proposals are waiting")
	// ErrTooLarge is returned when a proposal is over Config.MaxEntry, or what a
	// peer says over another bound.
	ErrTooLarge = errors.New("entry is too large")
	// ErrConfigChanged is returned when a membership change names a previous
	// configuration that is not the latest any more. Nothing was done.
	ErrConfigChanged = errors.New("configuration changed meanwhile")
	// ErrBootstrapped is returned when Bootstrap finds a group with a past.
	ErrBootstrapped = errors.New("group is bootstrapped already")
	// ErrNotServer is returned when a peer that is not a server of the group
	// connects to it.
	ErrNotServer = errors.New("peer is not a server of this group")
	// ErrMalformed is returned when bytes from a peer or a snapshot are not
	// what they should be.
	ErrMalformed = errors.New("malformed raft data")
)

// NotLeaderError is the ErrNotLeader that says who leads, where that is known.
type NotLeaderError struct {
	Leader workload.PeerID // zero when unknown
}

// Error names the leader.
func (e *NotLeaderError) Error() string {
	if e.Leader.IsZero() {
		return "not the leader, and the leader is not known"
	}
	return fmt.Sprintf("not the leader, %s is", e.Leader)
}

// Is reports that e is an ErrNotLeader.
func (e *NotLeaderError) Is(target error) bool { return target == ErrNotLeader }
