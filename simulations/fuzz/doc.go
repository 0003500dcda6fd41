// Package fuzz looks for scenarios in which an invariant of the model does not
// hold: it adds random faults, departures, attackers and work to a scenario, runs
// it, and shrinks what fails to a small scenario that still does.
//
// A try is a function of the fuzzer's seed and its number, so the same tries come
// again. Try 0 is the scenario as it is. What a run is judged by are the invariants
// that every simulation checks on the way (capacity never negative, one tenant a
// core, no task twice at once, nothing acknowledged lost, money conserved), a panic,
// and that the same events come a second time.
package fuzz
