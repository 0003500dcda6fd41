// Package stack runs whole nodes in one process: the production node package
// with its real libp2p host, QUIC, DHT, gossip, Raft, Badger, leader and worker,
// over a simulated packet network (simulations/packetnet). Only two things are
// not real: the network below QUIC, and what an attempt does, which a Program
// says in place of a process. Leases end attempts as the real supervisor
// process does, on a clock of each node's own that may run fast or slow.
//
// In a testing/synctest bubble all of it lives in virtual time: a minute of a
// mesh costs seconds or less, and what is seen at one instant has happened at
// that instant. A Mesh must be started, used and stopped inside one bubble.
// The runs are faithful, not deterministic: goroutines of one instant run in
// any order. Only the network's chance comes from the seed. Outside of a bubble
// a Mesh works too, in real time.
//
// The journal of what ran where and when is written by the machines themselves,
// so that it shows what the cell may not know: a task that runs twice at once.
package stack
