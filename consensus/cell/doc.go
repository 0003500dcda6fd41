// Package cell decides who of a cell's members takes part in its Raft group:
// whom to add, promote, demote and remove as a server, when leadership moves,
// and which silent member is put out.
//
// Plan is a pure function of the time and of what the leader sees. The leader
// calls it every second or so and after each change, does what it says, and
// calls again: no state is kept between two calls, so that a new leader goes on
// where the old one stopped. It goes for
//
//   - one voter for one or two members, three for three or more, five for seven
//     or more, and never rests at an even number;
//   - up to two standbys, which follow the log and hold the blobs, so that a dead
//     voter is replaced in one step;
//   - voters of different operators, networks and zones, up for long, near, and
//     reachable by dialling.
//
// At most one action of a plan changes the Raft configuration, and none while a
// change is not committed. After every change a majority of the voters are
// among those heard of within the last seconds. Cells neither split nor merge
// in this version: Plan has no action for it, and the epoch in the records of a
// cell is where it will show.
package cell
