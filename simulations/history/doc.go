// Package history hurts meshes of real daemons and checks what their clients were
// told and what ran.
//
// Clients submit, stop, read and wait while a nemesis kills daemons, stops them
// (SIGSTOP) for longer than a lease and an election take, cuts them off and starts
// them again (Nemesis), or does just what a bug would need to show (Schedules).
// Then the cluster is repaired and five checks look at what is left:
//
//   - linearizable: Porcupine (github.com/anishathalye/porcupine) finds an order of
//     the operations on each workload that agrees with their times and with the
//     model of the ledger's interface (model.go). An operation without an answer
//     stays open to the end. So an acknowledged workload never reads as absent, an
//     acknowledged stop is an end as stopped, and no read is older than one before it.
//   - singleton: by the supervisors' own records of what ran when, no two attempts
//     of a task ran at once, unless its spec lets it outlive its lease. One machine
//     has one boot-time clock, so the records of all nodes can be compared.
//   - outcome: every acknowledged workload ended as its spec says, with its output.
//   - fence: the result that counts is of the attempt that the ledger had given out.
//   - journal: the supervisors' records make sense, and every one of them closed.
//
// # Planted bugs
//
// testdata/plants holds bugs that TestPlantsAreCaught builds into a product, one at
// a time, without a trace in the product's files (Plant). Each has one check that
// must find it, at the lowest cost at which it is found every time:
//
//	plant                               found by
//	lease-counts-from-the-answer        model of leases (scheduler/lease): a worker's patience with an
//	                                    answer is a third of a lease, and the guard covers that
//	first-lease-counts-from-the-award   model of leases: it takes an award that is delayed by more than a lease
//	whole-leases                        model of leases: a real leader that wakes steps down within milliseconds
//	no-guard                            model of leases: a kill in time takes milliseconds, the guard is a second
//	new-leader-waits-for-nobody         daemons, killed-leader: singleton; and model of leases (-model)
//	given-up-at-half-time               daemons, frozen-worker: singleton
//	reawarded-before-expire             daemons, frozen-worker: singleton
//	supervisor-kills-nothing            daemons, frozen-worker: singleton
//	acknowledged-before-commit          daemons, lost-majority: linearizable
//	fence-ignored                       daemons, late-result: fence. It takes six edits: the ledger's fence,
//	                                    attempt numbers and signatures, the leader and the worker each
//	                                    refuse alone what is stale
//	fence-ignored-ledger                transcripts of the ledger: behind the leader's own check it shows
//	                                    only between that check and the commit
//	reads-of-a-deposed-leader           test of node/leader; daemons, frozen-leader: linearizable, most times
//
// # More of it
//
// Histories follow from a seed as far as real processes do. To run N of three and
// of five nodes, from seed S on (`make histories` goes through 20):
//
//	PERRIN_HISTORY_SEED=S PERRIN_HISTORY_SOAK=N go test -timeout 0 -run TestHistories ./simulations/history
//
// PERRIN_TEST_LOGS names a folder for the daemons' logs of what fails. Networks are
// cut for root alone, in namespaces that the test makes.
package history
