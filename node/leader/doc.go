// Package leader is what a cell's leader does while it leads: it takes
// workloads on, runs their auctions, hands out their tasks, keeps the leases
// and records the results.
//
// A Leader lives for one term of leadership. One goroutine owns the scheduling
// desk and the lease desk, which are pure; requests come in on any goroutine,
// speak to the ledger through the cell, and tell the owner what changed.
// Nothing here is remembered beyond the term: a new leader reads all of it from
// the ledger.
package leader
