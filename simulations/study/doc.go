// Package study runs the replications of a scenario, each an independently
// sampled network, on several workers, and says what they came to: a mean and a
// confidence interval for every figure, and a folder that somebody else can check.
//
// Replications share nothing, so their number of workers changes nothing but the
// time. Verify runs one replication twice, event by event side by side, and names
// the first event that differs.
package study
