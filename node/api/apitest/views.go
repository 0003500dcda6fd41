package apitest

import (
	"context"
	"fmt"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

func (j *job) on(i uint32) string { return nodeNames[int(i)%len(nodeNames)] }

func (j *job) task(i uint32) api.Task {
	t := api.Task{Index: i, Name: j.tasks[i].Name, Phase: workload.Pending}
	if r := j.results[i]; r != nil {
		t.Phase, t.Result, t.On, t.Node = workload.Succeeded, r, j.on(i), Peer(j.on(i))
		if !r.OK() {
			t.Phase = workload.Failed
		}
		if r.Exit == workload.StoppedExit {
			t.Phase = workload.Stopped
		}
	}
	return t
}

func (j *job) view(full bool) api.Workload {
	w := api.Workload{
		ID: j.id, Name: j.spec.Name, Labels: j.spec.Labels, Owner: Peer("owner"), Phase: j.phase, Reason: j.why,
		Program: j.spec.Program, Tasks: j.counts(), Retries: j.retries, Held: true, Home: Peer("anna"),
		Created: Start, Version: j.version, Placed: j.placed(),
	}
	for _, p := range w.Placed {
		w.Cost += p.Cost
	}
	if j.phase.Ended() {
		w.Ended = Start.Add(2 * time.Second)
	}
	if r := j.results[0]; r != nil && len(j.results) == 1 && j.phase.Ended() {
		code := r.ExitCode()
		w.ExitCode, w.ExitDetail = &code, r.Detail
	}
	if full {
		spec := j.spec
		w.Spec = &spec
	}
	return w
}

func (j *job) counts() api.Counts {
	c := api.Counts{Total: uint32(len(j.tasks))}
	for _, r := range j.results {
		switch {
		case r == nil:
			c.Open++
		case r.OK():
			c.Done++
		default:
			c.Failed++
		}
	}
	return c
}

func (j *job) placed() []api.Placed {
	var out []api.Placed
	for k, name := range nodeNames {
		p := api.Placed{Node: Peer(name), Name: name, Slots: 1, Rate: 500 + 10*int64(k)}
		for i, r := range j.results {
			if r != nil && j.on(uint32(i)) == name {
				p.Tasks++
				p.Cost += p.Rate / 100
			}
		}
		if p.Tasks > 0 {
			out = append(out, p)
		}
	}
	return out
}

// Why implements api.Backend.
func (f *Fake) Why(_ context.Context, id workload.ID, task *uint32) (*api.Why, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	j, err := f.get(id)
	if err != nil {
		return nil, err
	}
	w := &api.Why{ID: id, Phase: j.phase, Task: task, Summary: "It ran on anna for 500 a second."}
	if task != nil && *task >= uint32(len(j.tasks)) {
		return nil, api.Errorf(api.NotFound, "workload %s has no task %d", id.Short(), *task)
	}
	if !j.placeable() {
		w.Summary = "No node takes it."
		w.Pending = j.pending()
		w.Steps = []api.WhyStep{{At: Start, What: "accepted"}}
		return w, nil
	}
	w.Steps = j.steps()
	return w, nil
}

func (j *job) pending() *api.WhyAuction {
	reason := workload.Reason{Code: workload.ProgramMissing, Note: j.programName()}
	if j.fake.Programs[j.programName()] != nil {
		reason = workload.Reason{Code: workload.PriceAboveMax, Want: j.spec.MaxPrice, Have: j.fake.Floor}
	}
	a := &api.WhyAuction{At: Start.Add(time.Second), Wanted: j.spec.Slots(), MaxPrice: j.spec.MaxPrice}
	for _, name := range nodeNames {
		a.Declines = append(a.Declines, api.WhyDecline{Node: Peer(name), Name: name, Reasons: []workload.Reason{reason}})
	}
	return a
}

func (j *job) steps() []api.WhyStep {
	auction := &api.WhyAuction{
		At: Start.Add(20 * time.Millisecond), Wanted: j.spec.Slots(), MaxPrice: j.spec.MaxPrice,
		Bids: []api.WhyBid{
			{Node: Peer("anna"), Name: "anna", Slots: 2, Ask: 480, Score: 485, Won: 1, Rate: 500},
			{Node: Peer("ben"), Name: "ben", Slots: 1, Ask: 495, Score: 500, Reason: "outbid"},
		},
		Declines: []api.WhyDecline{{Node: Peer("carl"), Name: "carl", Reasons: []workload.Reason{
			{Code: workload.NoCores, Want: int64(j.spec.Resources.CPUs), Have: 0},
			{Code: workload.NoMemory, Want: j.spec.Resources.Memory, Have: 64 << 20},
		}}},
	}
	steps := []api.WhyStep{
		{At: Start, What: "accepted", Detail: "by the cell's voters"},
		{At: Start.Add(20 * time.Millisecond), What: "awarded", Slot: 1, Node: Peer("anna"), Name: "anna", Auction: auction},
	}
	if j.phase.Ended() {
		steps = append(steps, api.WhyStep{At: Start.Add(2 * time.Second), What: "ended", Detail: string(j.phase)})
	}
	return steps
}

func (f *Fake) machine(name string, cores int32) workload.Machine {
	return workload.Machine{
		Name: name, Arch: "amd64", OS: "linux", Labels: map[string]string{"zone": "attic"}, SMT: 2, Declared: true,
		Total:   workload.Capacity{Cores: cores, Threads: 2 * cores, Memory: int64(cores) << 32, Disk: 100 << 30, Slots: 64},
		Kinds:   []workload.Kind{workload.Wasm, workload.Process},
		Walls:   []string{"namespaces", "wasm"},
		Version: "v0.1.0",
	}
}

// Nodes implements api.Backend.
func (f *Fake) Nodes(_ context.Context, find string) ([]api.Node, error) {
	where, err := workload.ParseWhere(find)
	if err != nil {
		return nil, api.Errorf(api.Invalid, "%s", err.Error())
	}
	var out []api.Node
	for i, name := range nodeNames {
		m := f.machine(name, int32(4*(i+1)))
		if !where.Match(m.Facts()) {
			continue
		}
		out = append(out, api.Node{
			ID: Peer(name), Name: name, Cell: Cell, Self: i == 0, Role: []string{"leader", "voter", "voter"}[i], Alive: i != 2,
			Machine: m, RTTMicros: int64(i) * 850, Found: "cell", Addrs: []string{fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1", 4001+i)},
			Offer: &workload.Offer{Node: Peer(name), Cell: Cell, Machine: m, Running: int32(i), ValidMs: 15000,
				Free: workload.Capacity{Cores: m.Total.Cores - 1, Threads: m.Total.Threads - 2, Memory: m.Total.Memory / 2, Slots: 60},
				Asks: workload.Asks{Core: 480 + 15*int64(i), Thread: 310, Memory: 20}},
		})
	}
	return out, nil
}

// Picture implements api.Backend: a machine of two sockets, partly used.
func (f *Fake) Picture(_ context.Context, node string) (*workload.Picture, error) {
	if node != nodeNames[0] && node != "attic" {
		return nil, api.Errorf(api.NotFound, "no node %.80q in this cell", node)
	}
	m := f.machine(node, 8)
	m.Total.Spare, m.Declared = 16, false
	p := &workload.Picture{
		Sockets: 2, Others: 125, Enforced: []string{"cpusets", "CPU time limits", "freezer", "core scheduling"},
		Offer: workload.Offer{Node: Peer(node), Cell: Cell, Machine: m, Running: 3,
			Free: workload.Capacity{Cores: 3, Threads: 6, Memory: 8 << 30, Slots: 60, Spare: 9},
			Asks: workload.Asks{Core: 480, Thread: 310, Memory: 20, Spare: 80}},
	}
	use := func(name string, slot workload.SlotID) workload.ThreadUse {
		id := workload.ID{Cell: Cell}
		copy(id.Random[:], name)
		return workload.ThreadUse{Owner: Peer(name), Workload: id, Slot: slot, Taken: true}
	}
	for i := range int32(8) {
		p.Cores = append(p.Cores, workload.CoreUse{Socket: i / 4, Node: i / 4, Kept: i == 0, Threads: []workload.ThreadUse{{CPU: i}, {CPU: i + 8}}})
	}
	put := func(core, thread int, u workload.ThreadUse) {
		t := &p.Cores[core].Threads[thread]
		u.CPU = t.CPU
		*t = u
	}
	put(1, 0, use("ben", 1))
	put(1, 1, use("ben", 1))
	put(2, 0, use("carl", 4))
	put(4, 0, workload.ThreadUse{Taken: true, Held: true})
	put(4, 1, workload.ThreadUse{Taken: true, Held: true})
	ben, carl := use("ben", 2), use("carl", 5)
	p.Spare = []workload.SpareUse{
		{Owner: ben.Owner, Workload: ben.Workload, Slot: 2, CPUs: []int32{0, 1, 5, 6, 7, 8, 9, 13}}, {Owner: carl.Owner, Workload: carl.Workload, Slot: 5},
	}
	return p, nil
}

// Status implements api.Backend.
func (f *Fake) Status(_ context.Context, stats bool) (*api.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	cell := api.Cell{ID: Cell, Home: true, Epoch: 1, Term: 3, Leader: Peer("anna"), Name: "anna", Members: 3, Quorum: true,
		Free:   workload.Capacity{Cores: 21, Threads: 42, Memory: 48 << 30},
		Voters: []workload.PeerID{Peer("anna"), Peer("ben"), Peer("carl")}}
	if f.single {
		cell.Members, cell.Voters, cell.Standby = 2, cell.Voters[:1], cell.Voters[1:2]
	}
	st := &api.Status{
		Ready: f.notReady == "", Why: f.notReady, Mesh: workload.MeshID(workload.DigestOf([]byte("mesh"))), Node: Peer("anna"), Name: "anna",
		Version: "v0.1.0", Cells: []api.Cell{cell}, Declared: true, Versions: map[string]int{"v0.1.0": 3},
		Prices: map[string]int64{"core": 480, "thread": 310},
		Runs:   []workload.Kind{workload.OCI, workload.Process, workload.Wasm}, RunsNot: map[workload.Kind]string{workload.VM: "no QEMU"},
		Capacity: api.CapacitySum{
			Total: workload.Capacity{Cores: 24, Threads: 48, Memory: 96 << 30, Disk: 300 << 30, Slots: 192},
			Free:  workload.Capacity{Cores: 21, Threads: 42, Memory: 48 << 30, Disk: 290 << 30, Slots: 180},
		},
	}
	for _, j := range f.work {
		if !j.phase.Ended() {
			st.Running++
		}
	}
	if stats {
		st.Stats = map[string]any{"blob": map[string]any{"blobs": float64(len(f.blobs))}}
	}
	return st, nil
}
