// Package worker is the part of a node that sells its capacity and runs what it
// sold: it bids for calls, takes awards, runs attempts, renews its leases and
// reports results.
//
// It is the truth for what runs here and for what is free. One mutex guards its
// books (holds, bids, slots); each slot has one goroutine that runs its tasks
// one after another, and each cell that gave it slots has one that renews the
// lease. A supervisor process apart from the daemon ends attempts whose lease
// has run out, whatever happens to this one.
package worker
