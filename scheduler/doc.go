// Package scheduler decides who runs what: the leader's side of the market.
//
// It is pure: no clock, goroutine, randomness or I/O, so that the daemon and
// the simulator run the same rules. A Desk is fed one Input at a time with the
// time in ms and answers with Outputs that its shell carries out.
//
// Lots of the same shape and rules form a class and queue in it, the oldest
// first. When the book of offers holds no node that fits a class, the class is
// blocked as a whole: none of its lots is looked at again until a node's offer
// comes that fits it, a slot of such a node ends, an open call gives capacity back, or RetryMin to RetryMax
// ms have passed. So an input costs what it changes, not what waits.
//
//   - A lot at the head of its class opens an auction: a call for bids to the
//     best K nodes (more for a lot of many slots), and to nodes of sibling
//     cells when home cannot serve it. What is called for is reserved in the
//     book, so that two auctions do not chase the same cores.
//   - A node that declines is passed over by the class until its offer or time
//     says otherwise, and the lot calls the next best at once.
//   - An auction closes when all have answered, when no open bid could win or
//     set a price, or after max(CallMin, 2 x the slowest RTT) ms. A bid that
//     comes later is released.
//   - Clear picks the winners and their prices; the shell commits the award and
//     says so with Committed. A lot whose awards change nothing rests before
//     it is tried again.
//
// Clear is also what every replica of the ledger replays.
package scheduler
