package blob

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// How a fetch uses its sources.
const (
	maxSources        = 64               // of one fetch; more are ignored
	perSource         = 4                // requests at once to one source
	perFetch          = 16               // requests at once of one fetch: 16 MiB
	maxChunksInFlight = 64               // of all fetches together: 64 MiB
	hedgeAfter        = 2 * time.Second  // then another source is asked as well
	requestTimeout    = 30 * time.Second // then a request has failed
	maxFailures       = 3                // in a row, then a source is dropped
	maxMisses         = 16               // chunks in a row that a source does not have
	backOff           = 200 * time.Millisecond
	tick              = 100 * time.Millisecond
	maxBlamed         = 4096 // names remembered for corrupt chunks
)

// swarm is the sources of one fetch.
type swarm struct {
	store *Store
	ref   workload.Ref
	peers []*peer // of the goroutine in run

	mu    sync.Mutex
	extra []Source // offered and not yet among peers
	wake  chan struct{}
}

// peer is what a fetch knows of a source.
type peer struct {
	src      Source
	name     string
	open     int          // requests in flight
	failures int          // in a row
	misses   int          // in a row
	lacks    map[int]bool // items of this job that it does not have
	after    time.Time    // when it may be asked again
	err      error        // the last answer that was none
	gone     bool
}

// job is a set of items to bring. check runs in many goroutines; take in one,
// once for each item, and its error ends the fetch; it may not keep b.
type job struct {
	items []int
	get   func(ctx context.Context, src Source, i int, room []byte) ([]byte, error)
	check func(i int, b []byte) error
	take  func(i int, b []byte) error
}

// answer is what became of one request.
type answer struct {
	peer *peer
	item int
	b    []byte
	room []byte // where b may lie
	err  error
	bad  bool // err is check's
}

// asked is an item in flight.
type asked struct {
	since time.Time // the latest request
	peers []*peer
}

// round is one run of a job. Its fields belong to the goroutine in run.
type round struct {
	*swarm
	job
	todo    []int
	asked   map[int]*asked
	left    int // items not taken yet
	open    int // requests in flight
	answers chan answer
}

func newSwarm(s *Store, ref workload.Ref) *swarm {
	return &swarm{store: s, ref: ref, wake: make(chan struct{}, 1)}
}

// offer adds sources, also while run runs.
func (w *swarm) offer(sources []Source) {
	w.mu.Lock()
	w.extra = append(w.extra, sources[:min(len(sources), maxSources)]...)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// adopt makes peers of the sources that were offered: one for each name, the
// ones that sent corrupt chunks last.
func (w *swarm) adopt() {
	w.mu.Lock()
	extra := w.extra
	w.extra = nil
	w.mu.Unlock()
	for _, src := range extra {
		name := src.Name()
		known := slices.ContainsFunc(w.peers, func(p *peer) bool { return p.name == name })
		if !known && len(w.peers) < maxSources {
			w.peers = append(w.peers, &peer{src: src, name: name, lacks: map[int]bool{}})
		}
	}
	if len(extra) > 0 {
		slices.SortStableFunc(w.peers, func(a, b *peer) int { return w.store.blamed(a.name) - w.store.blamed(b.name) })
	}
}

// run brings every item of j. It returns ErrUnavailable when no source is left
// for one.
func (w *swarm) run(ctx context.Context, j job) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &round{swarm: w, job: j, todo: slices.Clone(j.items), asked: map[int]*asked{}, left: len(j.items), answers: make(chan answer, perFetch)}
	for _, p := range w.peers {
		p.lacks, p.open = map[int]bool{}, 0
	}
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	for r.left > 0 {
		w.adopt()
		waiting := r.assign(ctx)
		if r.open == 0 && !waiting {
			return w.unavailable()
		}
		select {
		case a := <-r.answers:
			if err := r.settle(a); err != nil {
				return err
			}
		case <-w.wake:
		case <-ticks.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// assign sends as many requests as there may be, one to each source in turn.
// It reports whether a source that waits after a failure may be asked later.
func (r *round) assign(ctx context.Context) (waiting bool) {
	now := time.Now()
	for again := true; again; {
		again = false
		for _, p := range r.peers {
			if p.gone || p.open >= perSource || r.open >= perFetch {
				continue
			}
			if now.Before(p.after) {
				waiting = true
				continue
			}
			if i, ok := r.pick(p, now); ok {
				r.request(ctx, p, i, now)
				again = true
			}
		}
	}
	return waiting
}

// pick returns an item to ask p for: one that nobody was asked for, or one
// that somebody is slow with.
func (r *round) pick(p *peer, now time.Time) (int, bool) {
	start := 0
	if p.misses > 0 && len(r.todo) > 0 {
		start = rand.IntN(len(r.todo)) // it has a part: look elsewhere
	}
	for k := range r.todo {
		k = (start + k) % len(r.todo)
		if i := r.todo[k]; !p.lacks[i] {
			r.todo = slices.Delete(r.todo, k, k+1)
			return i, true
		}
	}
	for i, a := range r.asked {
		if now.Sub(a.since) >= hedgeAfter && !p.lacks[i] && !slices.Contains(a.peers, p) {
			return i, true
		}
	}
	return 0, false
}

func (r *round) request(ctx context.Context, p *peer, i int, now time.Time) {
	a := r.asked[i]
	if a == nil {
		a = &asked{}
		r.asked[i] = a
	}
	a.since, a.peers = now, append(a.peers, p)
	p.open++
	r.open++
	go func() { r.answers <- r.ask(ctx, p, i) }()
}

// ask makes one request and checks the answer.
func (r *round) ask(ctx context.Context, p *peer, i int) answer {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	slots := r.store.slots
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return answer{peer: p, item: i, err: ctx.Err()}
	}
	a := answer{peer: p, item: i, room: roomFor(r.ref, i)}
	if a.b, a.err = r.get(ctx, p.src, i, a.room); a.err == nil {
		a.err = r.check(i, a.b)
		a.bad = a.err != nil
	}
	return a
}

// settle takes an answer in. Its error ends the fetch.
func (r *round) settle(a answer) error {
	defer Recycle(a.room)
	a.peer.open--
	r.open--
	if a.err != nil {
		r.blame(a)
		r.giveBack(a)
		return nil
	}
	a.peer.failures, a.peer.misses = 0, 0
	if r.asked[a.item] == nil {
		return nil // another source was quicker
	}
	delete(r.asked, a.item)
	r.left--
	return r.take(a.item, a.b)
}

// blame notes that a source did not give what it was asked for.
func (r *round) blame(a answer) {
	p := a.peer
	p.err = a.err
	switch {
	case a.bad:
		p.gone = true
		r.store.accuse(p.name)
		r.store.log.Warn("blob store: a source sent corrupt content", "source", fmt.Sprintf("%.80q", p.name), "err", a.err)
	case errors.Is(a.err, ErrNotFound):
		p.lacks[a.item] = true
		p.misses++
		p.gone = p.misses >= maxMisses
	default:
		p.failures++
		p.gone = p.failures >= maxFailures
		p.after = time.Now().Add(backOff << min(p.failures, 5))
	}
}

// giveBack makes an item wanted again unless another source still has it to answer.
func (r *round) giveBack(a answer) {
	in := r.asked[a.item]
	if in == nil {
		return
	}
	in.peers = slices.DeleteFunc(in.peers, func(p *peer) bool { return p == a.peer })
	if len(in.peers) == 0 {
		delete(r.asked, a.item)
		r.todo = append(r.todo, a.item)
	}
}

// unavailable says what each source answered.
func (w *swarm) unavailable() error {
	if len(w.peers) == 0 {
		return fmt.Errorf("%w: there is nobody to ask", ErrUnavailable)
	}
	var said []string
	for _, p := range w.peers[:min(len(w.peers), 8)] {
		said = append(said, fmt.Sprintf("%.80q: %.200s", p.name, fmt.Sprint(p.err)))
	}
	return fmt.Errorf("%w: %s", ErrUnavailable, strings.Join(said, "; "))
}

// accuse remembers that a source sent corrupt content.
func (s *Store) accuse(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Corrupt++
	if len(s.blame) >= maxBlamed {
		clear(s.blame)
	}
	s.blame[name]++
}

func (s *Store) blamed(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blame[name]
}
