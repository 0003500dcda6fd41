// Package ledger is the truth of a cell: members, workloads, slots, accounts.
//
// A State is built by applying the commands of the cell's Raft log in order.
// Apply is a pure function of the state and the command: no clock, randomness,
// goroutine or I/O, so every replica that applied the same log has the same
// state, down to the hash chain over its entries.
package ledger
