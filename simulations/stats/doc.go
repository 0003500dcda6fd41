// Package stats is what the simulator says about many numbers: quantiles of a
// stream in bounded memory, and confidence intervals over replications.
package stats
