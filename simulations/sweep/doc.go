// Package sweep runs many scenarios that differ in a few fields.
//
// An experiment is a scenario in whose file some fields are lists where a scenario
// has one value. Each such list is an axis, and each combination of values a cell,
// a scenario of its own. All cells have the same seed unless the seed is an axis,
// so that they see the same worlds as far as their fields allow.
//
// A replication is the unit of work: workers take the next one that a cell needs,
// and what it came to is a file before it counts. Its name is a hash of the
// scenario, the seed and the binary, so that the same command goes on where it was
// interrupted, and an experiment that grew runs only what is new.
//
// With until, a cell has as many replications as it takes for the confidence
// interval of one figure to be narrow: the first number, in order, at which it is.
// What a cell comes to therefore does not depend on the number of workers.
package sweep
