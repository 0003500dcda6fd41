// Package consensus runs one Raft group (Ongaro and Ousterhout, 2014) of a cell
// on streams that the caller opens: it replicates a log of commands, applies
// them in order to a state machine, and answers who leads.
//
// A Group wraps hashicorp/raft. What it adds:
//
//   - Servers are peer IDs. A server's Raft ID and its Raft address are both the
//     text of its peer ID; finding a way to it is the business of Streams.
//   - A connection is only taken from a server of the group, or from a peer that
//     Admit named, which is how a node joins: it has no configuration yet.
//   - VerifyLeader counts voters only, and only answers to heartbeats that were
//     sent after the call. The library's own check also counts nonvoters and
//     answers that were on their way before, so that a leader which slept
//     through an election could pass it; a lease granted on that would break.
//   - Retime changes timeouts that the library cannot reload, by closing and
//     opening its instance. The state machine does not go back for it.
//   - A node that is the only voter takes office at once instead of waiting for
//     an election timeout.
//   - A message to a follower is bounded in bytes, not just in entries, and what
//     a peer sends is checked before the library can panic on it.
//   - A term that cannot be stored because the disk is full stops the voter
//     until there is room, where the library would panic.
//
// # What a caller may rely on
//
// Propose returns when the entry is synced by a majority of the voters and
// applied here. ErrNotLeader, ErrBusy and ErrTooLarge mean that nothing
// happened. An error that wraps ErrUnknownOutcome means that the entry may be applied
// now, later or never; a caller that tries again must make its commands
// recognisable. Apply is called for every committed entry in order, on one
// goroutine, once for each instance of the state.
package consensus
