// Package scheduler decides who runs what: the leader's side of the market.
//
// It is pure: no clock, goroutine, randomness or I/O, so that the daemon and
// the simulator run the same rules. A Desk is fed one Input at a time with the
// time in ms and answers with Outputs that its shell carries out:
//
//   - a lot (what one workload still wants) opens an auction when the book of
//     offers holds a node that seems to fit, and again when an offer changes or
//     RetryMin to RetryMax ms have passed;
//   - the auction calls for bids from the best K nodes (more for a lot of many
//     slots), and from sibling cells or the DHT when home cannot serve it;
//   - it closes when all have answered, when no open bid could win or set the
//     price, or after max(CallMin, 2 x the slowest RTT) ms;
//   - Clear picks the winners and their prices; the shell commits the award.
//
// Clear is also what every replica of the ledger replays.
package scheduler
