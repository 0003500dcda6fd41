// Package external lets a process decide in a simulation: a policy of a user's own,
// in any language, over JSON lines. docs/policies.md has the protocol.
//
// The process is asked one line at a time and answers with one line. It is started
// once for each replication, with the first line it reads naming the version, the
// scenario and the seed. What it answers is part of the run and of its trace. A
// process that does not answer in time, ends, or answers what is no answer ends the
// run with an error that names the line; it never changes what a run comes to
// silently. The time for an answer is the one clock in a simulation, and it can
// only end it.
package external
