// Package ledger is the truth of a cell: members, workloads, slots, accounts.
//
// A State is built by applying the commands of the cell's Raft log in order.
// Apply is a pure function of the state and the command: no clock, randomness,
// goroutine or I/O, so every replica that applied the same log has the same
// state, down to the hash chain over its entries. What needs an encoding, the
// clearing or the tariff comes in as Rules, which are pure too.
//
// In goes a Command, at its index, with the bytes that it was decoded from; an
// entry that does not decode is applied as nil and rejected. Out comes a Result:
// a rejection with a code of a closed list, or what the leader has to tell
// workers and owners. A rejected command moves the hash chain and a counter, and
// nothing else, on every replica alike. There are no timeouts in here: that a
// lease has run out is the leader's knowledge, and becomes true by an Expire.
//
// A workload goes from waiting (for those it names in After) to pending and
// running and ends as succeeded, failed or stopped. Every task of it is in
// exactly one place: fresh, to be tried again, with one slot, done, or failed.
// These places are sets of runs of task indexes, each run with its attempt and
// failures, so that a million tasks that go through in order take a few hundred
// bytes. A slot takes tasks under its fence until the leader releases it, its
// node is given up, its node fails a task, or its workload ends.
//
// Three things are the leader's to do, as nothing here does them by itself: a
// slot whose Take came back empty is released, or given tasks when some open
// again, since the ledger counts on an idle slot to take what is open; Compact
// is proposed while Compactable counts any, and shrinks ended workloads to
// tombs by a rule that it carries; and a node whose lease ran out is
// expired. A Result's Freed says which slots ended, also those that an ended
// workload leaves behind.
package ledger
