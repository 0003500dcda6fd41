// Package receipt makes and checks receipts: what ran where, who decided it, what
// it used, what came out and what it cost, in a form that somebody checks
// without the mesh, from its root key alone.
//
// A receipt is a DSSE envelope (secure-systems-lab/dsse, v1) around an in-toto
// Statement v1, which other tools read, with three things beside it: the
// certificates of everybody who signed anything in it, and the results, segment
// by segment, which the statement names by the root of a Merkle tree (RFC 6962,
// section 2.1). So the statement of a workload of 10,000 tasks stays small.
//
// What is signed by whom: the owner signed the spec; each bidder its bid; each
// worker, for each segment, its fence and the root of what it returned; the
// voters of the cell, each against its own copy of the ledger, the whole
// statement. What only the leader knew (scores, its time) is in the statement, so
// that the clearing can be replayed.
//
// The package is pure: no clock, no I/O, no goroutine. Encodings, clearing and
// tariff come in as Rules.
package receipt
