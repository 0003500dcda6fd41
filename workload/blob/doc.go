// Package blob is the content-addressed store of a node: programs, inputs,
// outputs, streams and result segments, on disk, bounded, named by
// workload.Ref.
//
// Content of at most workload.ChunkSize bytes is named by its SHA-256. Larger
// content is named by the SHA-256 of its [Manifest], which lists the digest of
// every chunk, so that each chunk is checked on its own as it arrives from any
// peer. A name is the pair of digest and size: a size above ChunkSize says that
// the digest is one of a manifest, so bytes that happen to look like a manifest
// and are stored as content have another name than the blob they describe.
//
// # What a crash leaves
//
// A file is written in tmp/ and renamed into place, so a name never shows half
// a file while the machine runs. A large blob is synced before its name
// appears. A small one is not, so that thousands a second are cheap: call
// [Store.Sync] before its existence is promised to anybody. What a power cut
// damages all the same is found when it is next used: everything found on disk
// at Open counts as unverified, and is hashed once before it is handed out.
//
// Small contents that the caller can give again after a crash ([Store.PutLogged]) wait in
// memory, and Sync writes all of them into one file, a pack. A pack goes when all of its
// contents have gone; of one of which more than half has, Sync moves the rest.
//
// # What is kept
//
// Pins are in memory. Their owner (the ledger, a running attempt, an upload in
// progress) rebuilds them after a start and then calls [Store.AllowEviction];
// until then nothing is evicted. Over the limit, the least recently used blob
// that nothing pins goes first, and when all is pinned a write gets [ErrFull].
//
// # Trees
//
// [PackTree] makes one deterministic archive of a folder and [UnpackTree]
// takes an archive from a stranger.
package blob
