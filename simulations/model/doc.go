// Package model simulates a mesh of up to millions of peers in one goroutine,
// event by event, with the production rules deciding.
//
// What decides is the product's own code: the auction and its book (scheduler),
// the allocator and the reasons to decline (scheduler/capacity), the asks and the
// supply curves (scheduler/pricing), both sides of a lease (scheduler/lease) and
// the ledger with its clearing replayed (consensus/ledger). A test holds this
// package to them. What carries their inputs and outputs is modelled here, after
// node/leader and node/worker: links, commits, elections, starts, executions,
// machines that come and go.
//
// A World is one replication. Everything in it follows from the scenario and the
// seed: events have a total order, each peer draws from streams of its own, times
// and money are integers, and nothing depends on the order of a map. Its trace hash
// runs over every event and the heads of the ledgers. Time is ns from the start;
// the pure packages see ms, one ahead, since they take 0 as never.
//
// Cells are static: who belongs to a cell, and who votes, never changes.
package model
