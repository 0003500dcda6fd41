package scenario

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

// check refuses what is missing, contradicts itself or could never run.
func (r *reader) check(root *document.Node, s *Scenario) {
	at := func(name string) document.Pos {
		if n := root.Get(name); n != nil {
			return n.Pos
		}
		return root.Pos
	}
	need := func(missing bool, name, hint string) {
		if missing {
			r.fail(root.Pos, hint, "scenario: %s is missing", name)
		}
	}
	need(s.Duration == 0, "duration", "write duration: 10s")
	need(s.Peers == 0, "peers", "write peers: 1000")
	need(len(s.Machines) == 0, "machines", "write machines: [{cores: 8}]")
	need(len(s.Workloads) == 0, "workloads", "write workloads: [{poisson: 100/s, service: 1s}]")
	if len(r.errs) > 0 {
		return
	}
	if s.Name == "" {
		s.Name = "unnamed"
	}
	if s.Warmup >= s.Duration {
		r.fail(at("warmup"), "make it shorter", "warmup: nothing would be measured: it is as long as the duration")
	}
	if s.Warmup < s.Duration && s.Cooldown >= s.Duration-s.Warmup {
		r.fail(at("cooldown"), "make it shorter", "cooldown: nothing would be measured: with the warm-up it is as long as the duration")
	}
	if s.Duration/s.Interval > 1_000_000 {
		r.fail(at("interval"), "make it longer", "interval: more than a million rows")
	}
	if root.Get("voters") == nil {
		s.Voters = min(s.Voters, (min(s.CellSize, s.Peers)-1)|1)
	}
	if s.Voters%2 == 0 || s.Voters > min(s.CellSize, s.Peers) {
		r.fail(at("voters"), "", "voters: want an odd number of at most the cell's size, %d, got %d", min(s.CellSize, s.Peers), s.Voters)
	}
	r.checkMatrix(at("network"), &s.Network)
	for i := range s.Workloads {
		r.checkRuns(root.Get("workloads").Items[i].Pos, s, &s.Workloads[i])
		r.checkTimes(root.Get("workloads").Items[i], s.Duration, &s.Workloads[i])
	}
	if churn := root.Get("churn"); churn != nil && churn.Get("absence") != nil && churn.Get("session") == nil {
		r.fail(churn.Get("absence").Pos, "write session: as well, or leave it out: departures have back:", "churn.absence: without a session nobody leaves by chance")
	}
	for i, d := range s.Churn.Departures {
		if d.At >= s.Duration {
			r.fail(at("churn"), "", "churn.departures: number %d is after the end", i+1)
		}
	}
	for i := range s.Workloads {
		if s.Workloads[i].Shape.Class == workload.Spare && s.Policy.Name != Perrin && s.Policy.Name != FirstPrice {
			r.fail(root.Get("workloads").Items[i].Pos, "write policy: perrin", "workloads.shape.class: %s places no idle time", s.Policy.Name)
		}
	}
	r.checkWires(root, s)
	r.checkFaults(root, s)
	r.checkAttackers(root, s)
}

func (r *reader) checkMatrix(pos document.Pos, w *Network) {
	if len(w.Regions) == 0 {
		r.fail(pos, "", "network.regions: want one or more")
		return
	}
	if len(w.RTT) != len(w.Regions) {
		r.fail(pos, "a row for each region, in their order", "network.rtt: %d rows for %d regions", len(w.RTT), len(w.Regions))
		return
	}
	for i, row := range w.RTT {
		if len(row) != len(w.Regions) {
			r.fail(pos, "", "network.rtt: row %d has %d round trips for %d regions", i+1, len(row), len(w.Regions))
		}
	}
}

// checkRuns refuses a stream that no machine of the scenario could ever run.
func (r *reader) checkRuns(pos document.Pos, s *Scenario, w *Workloads) {
	if err := w.Shape.Validate(); err != nil {
		r.fail(pos, "", "workloads.shape.%v", err)
		return
	}
	for i := range s.Machines {
		if m := &s.Machines[i]; m.fits(w.Shape) {
			return
		}
	}
	r.fail(pos, "make the shape smaller or a machine larger", "workloads: no machine is large enough for %s", w.Name)
}

// checkTimes refuses work that would come when the run is over.
func (r *reader) checkTimes(n *document.Node, end int64, w *Workloads) {
	for i, b := range w.Bursts {
		if b.At >= end {
			r.fail(n.Get("bursts").Items[i].Pos, "make the duration longer, or leave it out", "workloads.bursts: number %d is after the end", i+1)
		}
	}
	if k := len(w.Arrivals); k > 0 && w.Arrivals[k-1].At >= end {
		first := slices.IndexFunc(w.Arrivals, func(a Arrival) bool { return a.At >= end })
		r.fail(n.Get("arrivals").Items[first].Pos, fmt.Sprintf("make the duration longer than %g s, or take fewer rows", float64(w.Arrivals[k-1].At)/1e9),
			"workloads.arrivals: number %d of %d comes after the end", first+1, k)
	}
}

func (m *Machine) fits(shape workload.Resources) bool {
	cpus := m.Cores
	if shape.Class != workload.Core {
		cpus *= m.Threads
	}
	return int(shape.CPUs) <= cpus && shape.Memory <= m.Memory && shape.Disk <= m.Disk
}

// Hash names the scenario: the SHA-256 of its JSON form, which has every default
// filled in. The seed, the number of replications and the words for people are no
// part of it.
func (s *Scenario) Hash() string {
	c := *s
	c.Name, c.About, c.Seed, c.Replications = "", "", 0, 0
	text, err := json.Marshal(&c)
	if err != nil { // numbers and strings alone
		panic(fmt.Sprintf("scenario: %v", err))
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Offered is the load that open streams offer as a share of all cores; 0 with
// closed ones alone. Above 1 queues grow for as long as the run lasts.
func (s *Scenario) Offered() float64 {
	var shares, cores float64
	for i := range s.Machines {
		m := &s.Machines[i]
		shares += float64(m.Share)
		cores += float64(m.Share) * float64(m.Cores) * m.Speed.Mean() / 1000
	}
	cores *= float64(s.Peers) / shares
	var busy float64
	for i := range s.Workloads {
		w := &s.Workloads[i]
		width := float64(w.Shape.CPUs)
		if w.Shape.Class == workload.Spare {
			continue // it takes what is left
		}
		if w.Shape.Class == workload.Thread {
			width /= float64(s.Machines[0].Threads)
		}
		busy += float64(w.Poisson) / 1000 * float64(w.Tasks) * w.Service.Mean() / float64(second) * width
	}
	return busy / cores
}

// What one of each costs in memory, in bytes, rounded up from what runs of
// 10,000 and 100,000 peers took (docs/simulation.md).
const (
	perPeer     = 3 << 10
	perCell     = 32 << 10
	perWorkload = 128
	perKept     = 8 << 10
	fixedBytes  = 64 << 20
)

// Memory estimates the bytes that one replication needs.
func (s *Scenario) Memory() int64 {
	cells := int64(s.Peers/s.CellSize + 1)
	arrivals, kept := 0.0, float64(cells)*float64(s.Cells.Keep)
	for i := range s.Workloads {
		w := &s.Workloads[i]
		rate := float64(w.Poisson) / 1000
		if w.Clients > 0 {
			rate = float64(w.Clients) * float64(second) / max(w.Service.Mean()+w.Think.Mean(), float64(50*ms))
		}
		arrivals += rate * float64(s.Duration) / float64(second)
		kept += rate * (float64(s.Cells.AtOnce) + min(w.Service.Mean(), float64(s.Duration))) / float64(second)
	}
	kept = min(kept, arrivals)
	total := float64(fixedBytes) + float64(s.Peers)*perPeer + float64(cells)*perCell + arrivals*perWorkload + kept*perKept
	return int64(min(total, 1<<60))
}

// Events estimates how many events one replication has: what a peer's offers and
// a workload of one task take (docs/simulation.md). It is for progress alone.
func (s *Scenario) Events() int64 {
	const aPeer, aWorkload = 0.42, 26.0 // a second
	rate := 0.0
	for i := range s.Workloads {
		w := &s.Workloads[i]
		each := float64(w.Poisson) / 1000
		if w.Clients > 0 {
			each = float64(w.Clients) * float64(second) / max(w.Service.Mean()+w.Think.Mean(), float64(50*ms))
		}
		rate += each * float64(max(w.Tasks/2, 1))
	}
	return int64(min(float64(s.Duration)/float64(second)*(float64(s.Peers)*aPeer+rate*aWorkload), 1<<60)) + 1
}
