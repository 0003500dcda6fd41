package model

import (
	"encoding/binary"
	"fmt"

	"github.com/perrin-mesh/perrin/scheduler"
	"github.com/perrin-mesh/perrin/scheduler/lease"
	"github.com/perrin-mesh/perrin/scheduler/pricing"
	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/policy"
	"github.com/perrin-mesh/perrin/simulations/queue"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/workload"
)

// What a stream of chance is for. Those of services begin at forService, one for
// each stream of workloads.
const (
	forPeer uint32 = iota
	forLinks
	forWork
	forLeader
	forArrivals
	forClients
	forChurn
	forDeparture
	forSubmits
	forFaults
	forAttackers
	forDrift
	forLines
	forReach
	forPairs
	forService = 1 << 16
	forInputs  = 1 << 17
)

// World is one replication. It is not safe for concurrent use.
type World struct {
	sc     *scenario.Scenario
	seed   chance.Seed
	traits policy.Traits
	lease  lease.Config
	specs  []workload.Spec    // of each stream, but for what is a workload's own
	parks  []workload.Machine // of each class of machines
	mesh   workload.MeshID

	q       queue.Queue[event]
	now     int64
	leaves  int64 // when what is sent now departs; 0 is now
	events  uint64
	trace   uint64
	fault   error // of an invariant; the run is over
	ended   bool
	shares  bool    // tasks can slow each other down
	busyOn  []int32 // threads of each core of one peer, between calls scratch
	busyAll int64

	peers     []peer
	cells     []cell
	loads     []load
	slots     []slot
	freeSlots []int32
	msgs      pool[message]  // under way
	proposals pool[proposal] // not committed yet
	arrivals  []chance.Stream
	clients   [][]chance.Stream
	where     chance.Stream // homes of submissions
	churns    bool          // peers come and go, or messages are lost: what is not answered is said again
	weather   *weather      // nil without faults
	active    []int32       // faults that make peers slow now
	claimed   []workload.Machine
	tracing   *trace // nil while nobody watches
	observer  func(*Op)
	op        Op                // of the observer
	planted   Plant             // "" is no bug
	answers   []int64           // scratch of replicated
	offerIn   scheduler.OfferIn // scratch of offered
	spec      workload.Spec     // scratch of early
	frozen    map[int32]int64   // ns until when a fault stops a peer that led
	lines     []lines           // of each peer; nil without network.bandwidth
	store     *store            // nil where no workload needs content
	sybils    []sybil           // one machine each
	reach     *reach            // nil where everybody is connected to everybody
	chooser   policy.Chooser    // of policy own

	calibration Calibration

	meter
}

// Event is one that is handled, for who compares two runs.
type Event struct {
	Number  uint64 // from 1
	At      int64  // ns
	Seq     uint64
	kind    kind
	what    msgKind
	a, b, c int32
}

// String returns the event in words.
func (e Event) String() string {
	text := e.kind.String()
	if e.what != 0 {
		text += " " + e.what.String()
	}
	return fmt.Sprintf("event %d at %.9f s (sequence %d): %s %d %d %d", e.Number, float64(e.At)/1e9, e.Seq, text, e.a, e.b, e.c)
}

// New returns a world before its first event. seed is of the replication. Policy
// own needs NewOwn.
func New(sc *scenario.Scenario, seed chance.Seed) (*World, error) { return NewOwn(sc, seed, nil) }

// NewOwn returns a world whose chooser decides if its policy is own. Its picks are
// part of the trace.
func NewOwn(sc *scenario.Scenario, seed chance.Seed, chooser policy.Chooser) (*World, error) {
	w := &World{sc: sc, seed: seed, traits: policy.TraitsOf(sc.Policy.Name), lease: lease.Default(), shares: sharing(sc), trace: 14695981039346656037, calibration: Measured()}
	if chooser != nil && sc.Policy.Name == scenario.Own {
		w.chooser = &traced{w, chooser}
	}
	w.meter.open(sc)
	copy(w.mesh[:], "simulated mesh")
	for i := range sc.Workloads {
		spec := specOf(&sc.Workloads[i], w.mesh)
		if err := spec.Validate(); err != nil {
			return nil, fmt.Errorf("workloads %s: %w", sc.Workloads[i].Name, err)
		}
		w.specs = append(w.specs, spec)
	}
	for i := range sc.Machines {
		w.parks = append(w.parks, machineOf(&sc.Machines[i]))
	}
	w.claimMachines()
	if err := w.populate(); err != nil {
		return nil, err
	}
	w.openStore()
	w.openReach()
	w.schedule()
	return w, nil
}

func specOf(s *scenario.Workloads, mesh workload.MeshID) workload.Spec {
	spec := workload.DefaultSpec()
	spec.Mesh, spec.Name, spec.Resources, spec.MaxPrice = mesh, s.Name, s.Shape, s.MaxPrice
	spec.Tasks.Count = uint32(s.Tasks)
	spec.Timeout, spec.VerifyBy = s.Timeout/millisecond, s.VerifyBy
	spec.Program = workload.Program{Kind: workload.Process, Name: s.Name, Blob: workload.Ref{Digest: workload.DigestOf([]byte(s.Name)), Size: 1}}
	return spec
}

func machineOf(m *scenario.Machine) workload.Machine {
	threads := int32(m.Cores * m.Threads)
	return workload.Machine{
		Name: m.Name, Arch: "amd64", OS: "linux", SMT: int32(m.Threads), Kinds: []workload.Kind{workload.Process},
		Walls: []string{"process"}, Version: "sim",
		Total: workload.Capacity{Cores: int32(m.Cores), Threads: threads, Memory: m.Memory, Disk: m.Disk, Slots: threads},
	}
}

// populate draws the peers and founds the cells.
func (w *World) populate() error {
	var regions, machines int64
	for _, r := range w.sc.Network.Regions {
		regions += r.Share
	}
	for _, m := range w.sc.Machines {
		machines += m.Share
	}
	w.peers = make([]peer, w.sc.Peers)
	for i := range w.peers {
		w.drawPeer(int32(i), regions, machines)
	}
	w.groupSybils()
	for first := 0; first < w.sc.Peers; first += w.sc.CellSize {
		last := min(first+w.sc.CellSize, w.sc.Peers)
		if err := w.found(int32(first), int32(last)); err != nil {
			return err
		}
	}
	return nil
}

func (w *World) drawPeer(i int32, regions, machines int64) {
	s := w.seed.Stream(uint32(i), forPeer)
	p := &w.peers[i]
	for k := range 3 {
		binary.BigEndian.PutUint64(p.id[8*k:], s.Uint64())
	}
	binary.BigEndian.PutUint32(p.id[28:], uint32(i))
	at := s.Int64N(regions)
	for ; at >= w.sc.Network.Regions[p.region].Share; p.region++ {
		at -= w.sc.Network.Regions[p.region].Share
	}
	at = s.Int64N(machines)
	for ; at >= w.sc.Machines[p.class].Share; p.class++ {
		at -= w.sc.Machines[p.class].Share
	}
	m := &w.sc.Machines[p.class]
	p.access = w.sc.Network.Access.Draw(&s)
	p.speed = max(m.Speed.Draw(&s), 1)
	p.base = min(max(m.Price.Draw(&s), 1), pricing.MaxBase)
	p.cell = i / int32(w.sc.CellSize)
	p.up, p.fresh, p.boot = true, true, 1
	if w.sc.Drift > 0 {
		clock := w.seed.Stream(uint32(i), forDrift)
		p.drift = int32(clock.Int64N(2*w.sc.Drift+1) - w.sc.Drift)
	}
	if len(w.sc.Attackers) > 0 {
		w.drawAttack(i, p)
	}
	w.drawLines(i)
	p.links, p.work = w.seed.Stream(uint32(i), forLinks), w.seed.Stream(uint32(i), forWork)
	w.counted(p, 1)
	w.price(p)
}

// indexOf is the peer that an identity names.
func indexOf(id workload.PeerID) int32 { return int32(binary.BigEndian.Uint32(id[28:])) }

// owner is the identity of a tenant, who is no peer.
func owner(i int) workload.PeerID {
	var id workload.PeerID
	copy(id[:], "owner")
	binary.BigEndian.PutUint32(id[28:], uint32(i))
	return id
}

// schedule pushes what comes by itself.
func (w *World) schedule() {
	w.where = w.seed.Stream(0, forSubmits)
	w.churns = !w.sc.Churn.Session.IsZero() || len(w.sc.Churn.Departures) > 0 || len(w.sc.Faults) > 0 || w.sc.Network.NAT != nil
	for i := range w.peers {
		phase := w.peers[i].work.Int64N(offerEvery)
		w.push(phase/50, event{kind: offerTick, a: int32(i)}) // everybody has just joined
	}
	for i := range w.sc.Workloads {
		w.scheduleStream(int32(i))
	}
	w.scheduleDigests()
	w.scheduleChurn()
	w.scheduleFaults()
	for at := w.sc.Interval; at <= w.sc.Duration; at += w.sc.Interval {
		w.push(at, event{kind: sample})
	}
}

func (w *World) push(at int64, e event) { w.pushed(w.q.Push(at, e)) }

// Step handles the next event; false when the time is over or an invariant does
// not hold (Err).
func (w *World) Step() bool {
	at, any := w.q.Next()
	if w.fault != nil || !any || at > w.sc.Duration {
		w.finish()
		return false
	}
	it, _ := w.q.Pop()
	w.now = it.At
	w.events++
	e := it.Value
	w.mix(uint64(it.At))
	w.mix(it.Seq)
	w.mix(uint64(e.kind)<<56 | uint64(e.what)<<48 | uint64(uint32(e.a)))
	w.mix(uint64(uint32(e.b))<<32 | uint64(uint32(e.c)))
	if w.tracing != nil {
		w.dispatchWatched(it.Seq, &e)
	} else {
		w.dispatchEvent(&e)
	}
	return w.fault == nil
}

// mix takes a number into the trace hash.
func (w *World) mix(v uint64) {
	h := (w.trace ^ v) * 0x9E3779B97F4A7C15
	w.trace = h ^ h>>29
}

// Now is the simulated time in ns.
func (w *World) Now() int64 { return w.now }

// Events is how many events there were.
func (w *World) Events() uint64 { return w.events }

// Err returns the invariant that does not hold, a *Violation, or nil.
func (w *World) Err() error { return w.fault }

// Trace is the hash over every event so far and what it did to the ledgers.
func (w *World) Trace() uint64 { return w.trace }

// Next returns the event that Step handles next; false when there is none.
func (w *World) Next() (Event, bool) {
	if at, any := w.q.Next(); !any || at > w.sc.Duration || w.fault != nil {
		return Event{}, false
	}
	it := w.q.Peek()
	e := it.Value
	return Event{w.events + 1, it.At, it.Seq, e.kind, e.what, e.a, e.b, e.c}, true
}

func (w *World) dispatchEvent(e *event) {
	switch e.kind {
	case arrive:
		w.arrive(e.a)
	case client:
		w.clientSubmits(e.a, e.b)
	case resend:
		w.resend(e.a)
	case deliver:
		w.arriveAt(e.a, e.c)
	case handle:
		w.deliver(e.a, e.c)
	case commit:
		w.committed(&w.cells[e.a], e.c)
	case wake:
		w.wake(&w.cells[e.a])
	case leaseDesk:
		w.expire(&w.cells[e.a])
	case begin, taskEnd, retry:
		w.slotEvent(e)
	case offerTick, offerSoon:
		w.offerEvent(e)
	case renew, leaseEnd:
		w.leaseEvent(e)
	case down:
		w.goDown(e.a, e.b)
	case up:
		w.comeUp(e.a, e.b)
	case depart:
		w.depart(int(e.a))
	case elect:
		w.elect(&w.cells[e.a], e.b)
	case sample:
		w.sample()
	case giveWay:
		w.giveWay(e)
	case faultBegins, faultEnds:
		w.strike(e.a, e.kind == faultBegins)
	case askLate:
		w.askLate(&w.cells[e.a], int64(e.c), int(e.b))
	case digestDue:
		w.digestDue(&w.cells[e.a])
	case nodesFound:
		w.nodesFound(&w.cells[e.a], int64(e.c))
	case chunkAsked, chunkComes, chunkHere, chunkLost:
		w.chunkEvent(e)
	}
}

// dispatch hands a message to who it is for.
func (w *World) dispatch(to int32, m *message) {
	switch m.kind {
	case msgCall:
		w.called(to, m)
	case msgRelease:
		w.released(to, m)
	case msgAward:
		w.awarded(to, m)
	case msgTaken, msgClosed, msgDoneAck:
		w.slotAnswer(to, m)
	case msgRenewed:
		w.renewed(to, m)
	case msgDisclaimed:
		w.disclaimed(to)
	case msgAck:
		w.acked(m)
	case msgSuitedAnswer:
		w.suitedAnswer(to, m)
	case msgSteal, msgStolen:
		w.stealing(to, m)
	case msgHold:
		w.holds(to, m)
	default:
		w.leaderGets(to, m)
	}
}

// Best implements policy.Oracle.
func (w *World) Best(of workload.CellID, lot *deskLot, avoid []workload.PeerID) (offerIn, int32, bool) {
	return w.best(of, lot, avoid)
}
