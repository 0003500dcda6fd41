// Package policy is who decides, at the leader of a cell, where work runs: the
// production desk and the rivals that it is compared with, behind one interface.
//
// A Desk is fed what happened and answers with what to do: calls for bids, awards,
// releases, questions to sibling cells. The messages, the bids, the holds, the
// clearing and the ledger are the same for all, so that a difference between two
// runs of one seed is the policy's. To add one, implement Chooser and bring it with
// study.Options or a process (simulations/external). What a Chooser cannot do is a
// Desk of its own: implement it, name it in scenario.Policies and make it in New.
//
// The rivals see the offers that their leader has heard (all-knowing sees every
// peer as it is) and pay the ask of the winner, as nobody bids against it, except
// random-k, whose bids are cleared as in production.
package policy
