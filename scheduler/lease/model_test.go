package lease

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// The model: a cell of three or five voters that elect leaders and commit as
// Raft does, and workers that bid, run and renew, on a network that delays,
// loses, doubles and cuts, on clocks that drift, with voters and daemons that
// freeze. Both sides decide with the package's own Worker and Desk. Whenever an
// attempt starts, the model, which sees everything, looks whether another
// attempt of the same slot is alive anywhere.

// tally is what a run of the model counted.
type tally struct {
	Reawards  int // committed awards of slots that were awarded before
	Expired   int // of them, those after the node was given up
	Doubles   int // attempts that started while another of their slot was alive
	Elections int
	Late      int // awards refused because their lease was over
	Renewals  int // sent
}

func (t *tally) add(o tally) {
	t.Reawards += o.Reawards
	t.Expired += o.Expired
	t.Doubles += o.Doubles
	t.Elections += o.Elections
	t.Late += o.Late
	t.Renewals += o.Renewals
}

// trialLength is the true time of one trial in us.
const trialLength = 600 * second

// play runs trials, each with its own seed and machines, until enough slots
// were awarded again after an expiry, or enough ran twice.
func play(t *testing.T, off rules, seed uint64, expired, doubles int) tally {
	t.Helper()
	var sum tally
	for trial := uint64(0); sum.Expired < expired && sum.Doubles < doubles; trial++ {
		w := newWorld(off, seed, trial)
		w.run(trialLength)
		if w.broken != "" {
			t.Fatal(w.broken)
		}
		sum.add(w.tally)
	}
	t.Log(sum)
	return sum
}

// enough is how many re-awards after an expiry the model looks at.
func enough() int {
	if testing.Short() || slowBuild {
		return 2_000
	}
	return 26_200
}

// TestNoSlotRunsTwice is the safety of the whole: with all rules, no re-award of
// tens of thousands runs beside the attempt that it replaces.
func TestNoSlotRunsTwice(t *testing.T) {
	t.Parallel()
	got := play(t, 0, 1, enough(), 1)
	if got.Doubles != 0 {
		t.Errorf("%d double runs in %d re-awards", got.Doubles, got.Reawards)
	}
	if got.Late == 0 || got.Elections < enough()/20 || got.Renewals < 4*enough() {
		t.Errorf("the model exercises too little: %+v", got)
	}
}

// TestEveryRuleIsNeeded switches off one rule at a time, and then all: the model
// must find double runs within the re-awards that have none with all rules.
func TestEveryRuleIsNeeded(t *testing.T) {
	for _, tt := range []struct {
		name string
		off  rules
		rare bool // not looked for in a short run
	}{
		{"a worker counts a lease from the answer", renewSent, false},
		{"a worker counts the first lease from the award", bidSent, true},
		{"a worker answers a call again", bidOnce, true},
		{"a leader grants whole leases", verified, false},
		{"a leader waits for the bare TTL", waited, false},
		{"a new leader waits for nobody", inherited, false},
		{"no rule", renewSent | bidSent | bidOnce | verified | waited | inherited, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.rare && enough() < 10_000 {
				t.Skip("too rare for a short run")
			}
			const doubles = 3
			if got := play(t, tt.off, 1, enough(), doubles); got.Doubles < doubles {
				t.Errorf("%d double runs in %d re-awards, want at least %d", got.Doubles, got.Reawards, doubles)
			}
		})
	}
}

// TestModelIsDeterministic: the same seed gives the same history.
func TestModelIsDeterministic(t *testing.T) {
	t.Parallel()
	one, two := play(t, 0, 7, 300, 1), play(t, 0, 7, 300, 1)
	if one != two {
		t.Errorf("one seed, two histories: %+v and %+v", one, two)
	}
	if other := play(t, 0, 8, 300, 1); other == one {
		t.Error("two seeds, one history")
	}
}

const (
	second = 1_000_000 // us
	ms     = 1_000
)

// world is one trial. Its time is true time in us; hosts know only their own.
type world struct {
	rng       *rand.Rand
	cfg       Config
	now       int64
	seq       uint64
	queue     eventQueue
	hosts     []*host // voters, then workers
	voters    []*voter
	workers   []*worker
	cut       [][]int64    // until when nothing passes from a to b
	ledger    ledger       // what is committed
	committed *entry       // the last one
	broken    string       // what the model's own consensus did wrong, which would prove nothing
	stormy    int          // percent of the trouble that hits voters
	live      [][]*attempt // by slot: every attempt that is not dead
	calls     int
	tally     tally
}

const modelSlots = 36

func newWorld(off rules, seed, trial uint64) *world {
	cfg := Default()
	cfg.off = off
	w := &world{rng: rand.New(rand.NewPCG(seed, trial)), cfg: cfg, live: make([][]*attempt, modelSlots)}
	voters, workers := 3+2*w.rng.IntN(2), 22
	w.ledger = newLedger(workers)
	w.committed = &entry{committed: true}
	w.stormy = []int{3, 8, 20}[w.rng.IntN(3)]
	for range voters + workers {
		w.hosts = append(w.hosts, &host{
			w: w, id: len(w.hosts), ahead: w.rng.Int64N(1000 * second),
			ppm: w.rng.Int64N(2*cfg.RhoPPM+1) - cfg.RhoPPM,
		})
		w.cut = append(w.cut, make([]int64, voters+workers))
	}
	for i := range voters {
		w.voters = append(w.voters, newVoter(w.hosts[i]))
	}
	for i := range workers {
		w.workers = append(w.workers, newModelWorker(w.hosts[voters+i], i))
	}
	w.at(0, w.trouble)
	return w
}

func (w *world) run(until int64) {
	for len(w.queue) > 0 && w.queue[0].at <= until {
		e := w.queue.pop()
		w.now = e.at
		e.do()
	}
}

// at schedules do at a true time.
func (w *world) at(t int64, do func()) {
	w.seq++
	w.queue.push(event{at: max(t, w.now), seq: w.seq, do: do})
}

// between draws a number of low to high-1.
func (w *world) between(low, high int64) int64 { return low + w.rng.Int64N(high-low) }

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

// host is a machine: a clock, and a daemon that may be frozen.
type host struct {
	w      *world
	id     int
	ahead  int64 // of its clock
	ppm    int64 // by which it is fast
	frozen int64 // until then no message is read and no timer fires
}

// clock is the host's own time in ms.
func (h *host) clock() int64 { return (h.ahead + h.w.now + h.w.now*h.ppm/1e6) / ms }

// when returns the true time at which the host's clock shows t.
func (h *host) when(t int64) int64 { return (t*ms-h.ahead)*1e6/(1e6+h.ppm) + 2 }

// after runs do when the host's clock has moved by d ms. A timer that falls into
// a freeze fires a little after it, in no order with the messages that waited.
func (h *host) after(d int64, do func()) {
	h.w.at(h.when(h.clock()+d), func() {
		if h.frozen > h.w.now {
			h.w.at(h.frozen+h.w.between(0, 300*ms), do)
			return
		}
		do()
	})
}

// send brings a message from h to another host, or does not.
func (h *host) send(to *host, do func()) {
	w := h.w
	if w.cut[h.id][to.id] > w.now || w.chance(2) {
		return
	}
	h.deliver(to, do)
	if w.chance(8) {
		h.deliver(to, do)
	}
}

func (h *host) deliver(to *host, do func()) {
	w := h.w
	delay := w.between(200, 6*ms)
	if w.chance(6) {
		delay += w.between(0, 8*second)
	}
	var arrive func()
	arrive = func() {
		if to.frozen > w.now {
			w.at(to.frozen+w.between(0, 50*ms), arrive) // many goroutines wake at once
			return
		}
		do()
	}
	w.at(w.now+delay, arrive)
}

// trouble breaks something and comes again.
func (w *world) trouble() {
	voters, workers := w.hosts[:len(w.voters)], w.hosts[len(w.voters):]
	one := func(hosts []*host) []*host { i := w.rng.IntN(len(hosts)); return hosts[i : i+1] }
	long := w.now + w.between(second/2, 25*second)
	short := w.now + w.between(second/2, 14*second)
	kind := w.rng.IntN(4)
	switch voter := w.chance(w.stormy); {
	case voter && kind == 0: // alone, but in reach of the workers
		w.separate([]*host{w.someVoter()}, voters, short)
	case voter && kind == 1: // a minority of the voters with half of the workers
		v, half := w.rng.IntN(len(voters)), len(workers)/2
		w.separate(append(voters[v:v+1:v+1], workers[:half]...), append(append([]*host{}, voters...), workers[half:]...), short)
	case voter && kind == 2: // frozen, and all that some workers can reach
		v, half := w.someVoter(), len(workers)/2
		v.frozen = w.now + w.between(second, 9*second)
		w.separate(append([]*host{v}, workers[half:]...), append(append([]*host{}, voters...), workers[:half]...), v.frozen+w.between(0, 20*second))
	case voter:
		w.someVoter().frozen = short
	case kind == 0:
		one(workers)[0].frozen = long
	case kind == 1: // one direction of one link
		w.cut[one(w.hosts)[0].id][one(voters)[0].id] = long
	default:
		w.separate(one(workers), voters, long)
	}
	w.at(w.now+w.between(0, 1600*ms), w.trouble)
}

// someVoter is a leader more often than not.
func (w *world) someVoter() *host {
	for _, v := range w.voters {
		if v.leads != nil && w.chance(60) {
			return v.host
		}
	}
	return w.hosts[w.rng.IntN(len(w.voters))]
}

// separate cuts every link between the two sides; hosts on both keep theirs
// within the first side.
func (w *world) separate(these, those []*host, until int64) {
	inside := map[int]bool{}
	for _, a := range these {
		inside[a.id] = true
	}
	for _, a := range these {
		for _, b := range those {
			if !inside[b.id] {
				w.cut[a.id][b.id], w.cut[b.id][a.id] = until, until
			}
		}
	}
}

// attempt is one run of a slot. The supervisor on its machine kills it at the
// deadline that it was last told, whether the daemon is frozen or not.
type attempt struct {
	host     *host
	slot     int
	call     int
	epoch    uint64
	deadline int64 // ms on the host's clock
	doomed   bool  // the supervisor has begun to kill it
	dead     bool
}

func (w *world) start(a *attempt) {
	for _, other := range w.live[a.slot] {
		if !other.dead {
			w.tally.Doubles++
			break
		}
	}
	w.live[a.slot] = append(w.live[a.slot], a)
	w.supervise(a)
}

func (w *world) supervise(a *attempt) {
	watched := a.deadline
	w.at(a.host.when(watched), func() {
		switch {
		case a.doomed:
		case a.deadline > watched:
			w.supervise(a)
		default:
			w.kill(a)
		}
	})
}

// kill takes up to 400 ms: less than the guard.
func (w *world) kill(a *attempt) {
	if a.doomed {
		return
	}
	a.doomed = true
	w.at(w.now+w.between(ms, 400*ms), func() {
		a.dead = true
		alive := w.live[a.slot][:0]
		for _, other := range w.live[a.slot] {
			if !other.dead {
				alive = append(alive, other)
			}
		}
		w.live[a.slot] = alive
	})
}

// event is something at a true time; the queue is a binary heap by time, then
// by the order in which they were made.
type event struct {
	at  int64
	seq uint64
	do  func()
}

func (e event) before(o event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

type eventQueue []event

func (q *eventQueue) push(e event) {
	h := append(*q, e)
	i := len(h) - 1
	for i > 0 && e.before(h[(i-1)/2]) {
		h[i] = h[(i-1)/2]
		i = (i - 1) / 2
	}
	h[i], *q = e, h
}

func (q *eventQueue) pop() event {
	h := *q
	top, last := h[0], h[len(h)-1]
	h[len(h)-1] = event{}
	h = h[:len(h)-1]
	for i := 0; len(h) > 0; {
		child := 2*i + 1
		if child+1 < len(h) && h[child+1].before(h[child]) {
			child++
		}
		if child >= len(h) || last.before(h[child]) {
			h[i] = last
			break
		}
		h[i] = h[child]
		i = child
	}
	*q = h
	return top
}

func (t tally) String() string {
	return fmt.Sprintf("%d re-awards, %d of them after an expiry, %d double runs, %d elections", t.Reawards, t.Expired, t.Doubles, t.Elections)
}
