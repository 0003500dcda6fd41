// Package store keeps what a node must not lose and what it would rather not
// compute again, in two Badger databases and a folder of snapshots:
//
//	FORMAT      the version of this layout
//	LOCK        held while a daemon has the folder open
//	ACKED       the number of the last acknowledged commit (see below)
//	raft/       synced: Raft logs, terms and votes of every group, durable facts
//	node/       unsynced: caches that can be filled again; lost without a word
//	snapshots/  Raft snapshots, a folder for each group
//
// Every synced write of every group goes through one committer goroutine. It
// takes all writes that wait, commits them in one transaction with one sync and
// then answers them all, so that many groups share the cost of a sync.
//
// # A full disk
//
// Badger writes through mapped sparse files, and a store into a mapped page
// without a block behind it kills the process. The store therefore stops while
// there is still room: an append is refused with ErrNoSpace when less than
// Options.Reserve is free, and so is any other write below a quarter of it;
// deletions, which free room, are let through down to a sixteenth. Nothing acknowledged is lost,
// and appends succeed again as soon as there is room.
//
// # A damaged folder
//
// A torn tail of Badger's write-ahead log holds only what was never
// acknowledged, and Badger cuts it off. It does the same, silently, with
// everything after a damaged byte in the middle. To tell the two apart each
// commit carries a number, and the last acknowledged number is also kept in
// ACKED, which is written without a sync after the commit: it may lag behind
// the database but never runs ahead of it, unless acknowledged commits are gone.
// Every append also records the range of its log, and every commit the number of
// groups, so that a table which is gone shows in what is newer. Open and Group
// then return ErrCorrupt: a voter that forgot what it promised must not vote.
//
// A copy of the folder that was taken while it was in use is such a folder, too.
package store
