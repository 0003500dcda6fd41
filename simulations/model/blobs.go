package model

import (
	"slices"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/simulations/stats"
	"github.com/perrin-mesh/perrin/workload"
)

// What workloads need is moved as in the product. Before a workload is acknowledged
// the voters fetch it from the node that it was submitted on, unless it is more than
// workload.KeepAutoLimit or a majority has it already (node/leader/submit.go). Workers
// fetch it from the voters and that node, in chunks, several at once from several of
// them (workload/blob/swarm.go).
//
// The program of a stream has the number ^stream, the inputs of a workload its own.

// How a fetch uses its sources, as in workload/blob/swarm.go. A source that is not
// there is given up after goneAfter. A blob has at most maxChunks here, larger ones
// than the product's when it is large.
const (
	perSource      = 4
	perFetch       = 16
	goneAfter      = 2000 * millisecond
	requestTimeout = 30_000 * millisecond
	maxFailures    = 3
	maxChunks      = 256
	manifestHead   = 35 // bytes, and 32 a chunk
)

// store is what peers have of content, and what is on its way.
type store struct {
	here    map[shelved]struct{} // never walked
	shelves []shelf              // of each peer
	fetches []fetch
	free    []int32
	coming  map[shelved]int32 // the fetch of it; never walked
	holds   map[int32]*hold   // of workloads that are not acknowledged yet; never walked

	moved   int64 // bytes, after the warm-up
	brought stats.Histogram
}

type shelved struct{ peer, blob int32 }

// shelf is what a peer has, in the order in which it came.
type shelf struct {
	blobs []int32
	bytes int64
}

// fetch is a blob on its way to a peer.
type fetch struct {
	live     bool
	gen      int32 // counts the uses of this place
	blob, to int32
	size     int64
	manifest bool  // the manifest comes first
	todo     int32 // chunks that nobody was asked for
	missing  int32 // chunks that are not here
	chunk    int64 // bytes
	open     int32 // requests under way
	sources  []blobSource
	waits    []waiter
}

// blobSource is somebody who may have the blob.
type blobSource struct {
	peer     int32
	home     bool // it has all that its workload needs
	gone     bool
	via      int32 // relay between the two; -1 is none
	failures int8
	open     int32
	asked    [perSource]int64 // ns, of the requests under way, the oldest first
}

// waiter is who goes on when a blob is there: a slot, or with slot -1 a server that
// holds it for a workload.
type waiter struct {
	slot, gen          int32
	load, leader, cell int32
	lacks              *int32
}

// hold is a workload that waits for a majority of the voters to have what it needs.
type hold struct {
	term   int32
	from   int32
	accept *ledger.Accept
	acked  []int32
}

func (w *World) openStore() {
	for i := range w.sc.Workloads {
		if s := &w.sc.Workloads[i]; s.Program > 0 || !s.Inputs.IsZero() {
			w.store = &store{
				here: map[shelved]struct{}{}, shelves: make([]shelf, len(w.peers)), coming: map[shelved]int32{}, holds: map[int32]*hold{},
			}
			return
		}
	}
}

// needsOf lists what a workload needs.
func (w *World) needsOf(load int32) (blobs [2]int32, n int) {
	l := &w.loads[load]
	if w.sc.Workloads[l.stream].Program > 0 {
		blobs[n] = ^l.stream
		n++
	}
	if !w.sc.Workloads[l.stream].Inputs.IsZero() {
		blobs[n] = load
		n++
	}
	return blobs, n
}

// bytesOf is the size of a blob.
func (w *World) bytesOf(blob int32) int64 {
	if blob < 0 {
		return w.sc.Workloads[^blob].Program
	}
	l := &w.loads[blob]
	s := w.seed.Stream(l.who, forInputs+uint32(l.stream)).From(uint64(l.round) << 4)
	return max(w.sc.Workloads[l.stream].Inputs.Draw(&s), 1)
}

func (w *World) has(peer, blob int32) bool {
	_, ok := w.store.here[shelved{peer, blob}]
	return ok
}

// shelve keeps a blob on a peer; what came first goes when there is no room.
func (w *World) shelve(peer, blob int32, size int64) {
	s := &w.store.shelves[peer]
	w.store.here[shelved{peer, blob}] = struct{}{}
	s.blobs, s.bytes = append(s.blobs, blob), s.bytes+size
	for s.bytes > w.sc.Blobs.Keep && len(s.blobs) > 1 {
		delete(w.store.here, shelved{peer, s.blobs[0]})
		s.bytes -= w.bytesOf(s.blobs[0])
		s.blobs = s.blobs[1:]
	}
}

// bring has a slot wait for what it lacks; false when nothing is missing.
func (w *World) bring(on, i int32) bool {
	s := &w.slots[i]
	blobs, n := w.needsOf(s.load)
	if w.loads[s.load].home == on {
		n = 0
	}
	s.asked, s.lacks = w.now, 0
	for _, b := range blobs[:n] {
		if !w.has(on, b) {
			s.lacks++
		}
	}
	waits := s.lacks > 0
	for _, b := range blobs[:n] {
		if !w.has(on, b) {
			w.fetch(on, b, w.sourcesOf(s.cell, s.load, on, b), waiter{slot: i, gen: s.gen})
		}
	}
	return waits
}

// sourcesOf lists whom a worker asks: the voters and the home of the workload, and
// where the scenario says so all members that have it.
func (w *World) sourcesOf(cell, load, on, blob int32) (out []blobSource) {
	c := &w.cells[cell]
	for _, v := range c.voters {
		if v != on {
			out = append(out, blobSource{peer: v, home: v == w.loads[load].home})
		}
	}
	if home := w.loads[load].home; !slices.Contains(c.voters, home) && home != on {
		out = append(out, blobSource{peer: home, home: true})
	}
	if w.sc.Blobs.From == scenario.Anyone {
		for i := c.first; i < c.last; i++ {
			if i != on && !slices.Contains(c.voters, i) && w.has(i, blob) {
				out = append(out, blobSource{peer: i})
			}
		}
	}
	return out
}

// fetch brings a blob to a peer. Those who want the same one share a fetch.
func (w *World) fetch(to, blob int32, sources []blobSource, who waiter) {
	st := w.store
	if i, ok := st.coming[shelved{to, blob}]; ok {
		f := &st.fetches[i]
		if who.slot >= 0 || !slices.ContainsFunc(f.waits, func(o waiter) bool { return o.slot < 0 && o.load == who.load }) {
			f.waits = append(f.waits, who)
		}
		return
	}
	i := int32(len(st.fetches))
	if n := len(st.free); n > 0 {
		i, st.free = st.free[n-1], st.free[:n-1]
	} else {
		st.fetches = append(st.fetches, fetch{})
	}
	f := &st.fetches[i]
	size := w.bytesOf(blob)
	*f = fetch{live: true, gen: f.gen + 1, blob: blob, to: to, size: size, todo: 1, missing: 1, chunk: size, sources: sources, waits: append(f.waits[:0], who)}
	if size > workload.ChunkSize {
		f.manifest, f.chunk = true, manifestHead+32*((size+workload.ChunkSize-1)/workload.ChunkSize)
	}
	st.coming[shelved{to, blob}] = i
	w.askChunks(i)
}

// askChunks sends as many requests as there may be, one to each source in turn.
func (w *World) askChunks(i int32) {
	f := &w.store.fetches[i]
	for again := true; again; {
		again = false
		for k := range f.sources {
			s := &f.sources[k]
			if s.gone || s.open >= perSource || f.open >= perFetch || f.todo == 0 {
				continue
			}
			again = true
			f.todo--
			s.asked[s.open] = w.now
			s.open, f.open = s.open+1, f.open+1
			w.askChunk(f, i, int32(k))
		}
	}
	if f.open == 0 {
		w.fetched(i, false)
	}
}

func (w *World) askChunk(f *fetch, i, k int32) {
	from := f.sources[k].peer
	w.count(msgChunk)
	leaves, via, ok := w.now, int32(-1), w.reaches(f.to, from)
	if w.reach != nil && ok {
		leaves, via, ok = w.contact(f.to, from, leaves)
	}
	if !ok {
		w.push(w.now+goneAfter, event{kind: chunkLost, a: k, b: i, c: f.gen})
		return
	}
	f.sources[k].via = via
	if w.lines != nil {
		leaves = w.lines[f.to].up.message(leaves, msgBytes[msgChunk], w.sc.Network.Bandwidth.Buffer)
	}
	w.push(leaves+w.way(f.to, from, via), event{kind: chunkAsked, a: k, b: i, c: f.gen})
}

// chunkEvent is one of a fetch that goes on, or nothing.
func (w *World) chunkEvent(e *event) {
	f := &w.store.fetches[e.b]
	if !f.live || f.gen != e.c {
		return
	}
	s := &f.sources[e.a]
	switch e.kind {
	case chunkAsked:
		w.serveChunk(f, s, e)
	case chunkComes:
		at := w.now
		if w.lines != nil {
			at = w.lines[f.to].down.content(w.now, f.chunk)
		}
		w.push(at, event{kind: chunkHere, a: e.a, b: e.b, c: e.c})
	case chunkHere:
		w.chunkCame(f, s, e.b)
	case chunkLost:
		s.answered(f)
		s.gone = true
		f.todo++
		w.askChunks(e.b)
	}
}

// serveChunk is a request at a source.
func (w *World) serveChunk(f *fetch, s *blobSource, e *event) {
	p := &w.peers[s.peer]
	switch {
	case !p.up || !w.reaches(s.peer, f.to):
		w.push(w.now+goneAfter, event{kind: chunkLost, a: e.a, b: e.b, c: e.c})
	case !s.home && (!w.has(s.peer, f.blob) || w.does(p, scenario.FreeRides)):
		w.push(w.now+w.delay(s.peer, f.to), event{kind: chunkLost, a: e.a, b: e.b, c: e.c})
	default:
		leaves := w.now
		if w.lines != nil {
			leaves = w.lines[s.peer].up.content(w.now, f.chunk)
		}
		w.countBytes(msgChunk, f.chunk)
		if w.lines != nil && s.via >= 0 {
			leaves = w.lines[s.via].up.content(leaves, f.chunk)
		}
		w.push(leaves+w.way(s.peer, f.to, s.via), event{kind: chunkComes, a: e.a, b: e.b, c: e.c})
	}
}

// chunkCame takes a chunk in, unless its request has timed out.
func (w *World) chunkCame(f *fetch, s *blobSource, i int32) {
	if w.now-s.answered(f) > requestTimeout {
		s.failures++
		s.gone = s.failures >= maxFailures
		f.todo++
		w.askChunks(i)
		return
	}
	s.failures = 0
	if w.warm(w.now) {
		w.store.moved += f.chunk
	}
	if f.missing--; f.missing > 0 {
		w.askChunks(i)
		return
	}
	if !f.manifest {
		w.fetched(i, true)
		return
	}
	chunks := min((f.size+workload.ChunkSize-1)/workload.ChunkSize, maxChunks)
	f.manifest, f.todo, f.missing, f.chunk = false, int32(chunks), int32(chunks), (f.size+chunks-1)/chunks
	w.askChunks(i)
}

// answered takes the oldest request off a source and returns when it was made.
func (s *blobSource) answered(f *fetch) int64 {
	at := s.asked[0]
	copy(s.asked[:], s.asked[1:])
	s.open, f.open = s.open-1, f.open-1
	return at
}

// fetched ends a fetch, and has those go on who waited.
func (w *World) fetched(i int32, ok bool) {
	f := &w.store.fetches[i]
	to, waits := f.to, f.waits
	if ok {
		w.shelve(to, f.blob, f.size)
	}
	w.drops(i)
	for _, who := range waits {
		switch {
		case who.slot < 0:
			if ok {
				w.heldHere(to, &who)
			}
		case w.slots[who.slot].live && w.slots[who.slot].gen == who.gen:
			w.broughtTo(to, who.slot, ok)
		}
	}
}

// drops frees the place of a fetch.
func (w *World) drops(i int32) {
	f := &w.store.fetches[i]
	delete(w.store.coming, shelved{f.to, f.blob})
	f.live, f.waits, f.sources = false, nil, nil
	w.store.free = append(w.store.free, i)
}

// broughtTo is a blob that has come for a slot, or that nobody had.
func (w *World) broughtTo(on, i int32, ok bool) {
	s := &w.slots[i]
	switch {
	case s.ending:
	case !ok:
		w.failsAll(on, i)
	default:
		if s.lacks--; s.lacks == 0 {
			if w.counts(w.loads[s.load].arrived) {
				w.store.brought.Add(w.now - s.asked)
			}
			w.starts(on, i)
		}
	}
}

// stopFetches ends what is on its way to a peer that leaves.
func (w *World) stopFetches(peer int32) {
	if w.store == nil {
		return
	}
	for i := range w.store.fetches {
		if f := &w.store.fetches[i]; f.live && f.to == peer {
			w.drops(int32(i))
		}
	}
}
