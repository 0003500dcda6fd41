// Package inspect looks into a run that is over, by running it again: replications
// are bit-exact, so nothing but the scenario and the seed has to be kept.
//
// PeerAt is the state of a peer at a time, PathOf what a workload waited for from
// its arrival to its end, event by event, and Slowest where to begin. Each goes on
// to the end of the replication and wants the trace that the folder has, unless it
// is told to stop early.
package inspect
