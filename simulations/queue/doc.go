// Package queue is the event queue of the simulator: a ladder of buckets with a
// total order of (time, sequence), so that a run is the same each time.
//
// Events lie in three parts. Far ones are an unsorted list, the top.
// When they come near, they are spread over the buckets of a rung by time, and a
// bucket that is still large over a finer rung below. Only the items of the
// earliest bucket are sorted, into the bottom, from which Pop takes. So an event is
// moved a few times whatever is waiting: constant cost instead of the logarithm
// of a heap (Tang, Goh and Thng, "Ladder queue", 2005).
package queue
