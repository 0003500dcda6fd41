package scenario

import (
	"fmt"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

// Parse reads and checks a scenario; name is for errors. An error is of type
// document.Errors.
func Parse(name string, data []byte) (*Scenario, error) {
	root, err := ReadTree(name, data)
	if err != nil {
		return nil, err
	}
	return ParseTree(name, root)
}

func (r *reader) root(n *document.Node, s *Scenario) {
	if n.Kind != document.Map {
		r.fail(n.Pos, "begin with name: NAME", "want a scenario, got %s", n.Kind)
		return
	}
	r.fields(n, "scenario", map[string]field{
		"name": r.text("name", &s.Name), "about": r.text("about", &s.About),
		"seed":     r.whole("seed", 0, 1<<62, func(v int64) { s.Seed = uint64(v) }),
		"duration": r.duration("duration", ms, 24*365*hour, &s.Duration),
		"warmup":   r.duration("warmup", 0, 24*365*hour, &s.Warmup),
		"cooldown": r.duration("cooldown", 0, 24*365*hour, &s.Cooldown),
		"interval": r.duration("interval", ms, 24*hour, &s.Interval),

		"replications": r.count("replications", 1, MaxReplications, &s.Replications),
		"peers":        r.count("peers", 1, maxPeers, &s.Peers),
		"cell_size":    r.count("cell_size", 1, 128, &s.CellSize),
		"voters":       r.count("voters", 1, 9, &s.Voters),
		"owners":       r.count("owners", 1, 100_000, &s.Owners),

		"policy":      func(n *document.Node) { r.policy(n, &s.Policy) },
		"network":     func(n *document.Node) { r.network(n, &s.Network) },
		"machines":    func(n *document.Node) { r.machines(n, s) },
		"workloads":   func(n *document.Node) { r.workloads(n, s) },
		"start":       r.dist("start", span, &s.Start),
		"ends_within": r.duration("ends_within", ms, 24*365*hour, &s.EndsWithin),
		"drift":       r.figure("drift", percent, 0, million/2, func(v float64) { s.Drift = int64(v) }),
		"churn":       func(n *document.Node) { r.churn(n, &s.Churn) },
		"costs":       func(n *document.Node) { r.costs(n, &s.Costs) },
		"faults":      func(n *document.Node) { r.faults(n, s) },
		"attackers":   func(n *document.Node) { r.attackers(n, s) },
		"blobs":       func(n *document.Node) { r.blobs(n, &s.Blobs) },
		"cells": func(n *document.Node) {
			r.fields(n, "cells", map[string]field{
				"keep": r.count("cells.keep", 0, 10_000, &s.Cells.Keep), "at_once": r.duration("cells.at_once", 0, hour, &s.Cells.AtOnce),
			})
		},
	})
}

func (r *reader) network(n *document.Node, w *Network) {
	r.fields(n, "network", map[string]field{
		"regions": func(n *document.Node) { r.regions(n, w) },
		"rtt":     func(n *document.Node) { r.rtt(n, w) },
		"access":  r.dist("network.access", span, &w.Access),
		"jitter":  r.figure("network.jitter", percent, 0, million, func(v float64) { w.Jitter = int64(v) }),
		"loss":    r.figure("network.loss", percent, 0, million/2, func(v float64) { w.Loss = int64(v) }),

		"bandwidth":   func(n *document.Node) { r.bandwidth(n, w) },
		"connections": func(n *document.Node) { r.connections(n, w) },
		"nat":         func(n *document.Node) { r.nat(n, w) },
		"gossip":      func(n *document.Node) { r.gossip(n, w) },
		"dht":         r.truth("network.dht", &w.DHT),
	})
	if n.Kind != document.Map || (n.Get("regions") == nil) == (n.Get("rtt") == nil) {
		return
	}
	r.fail(n.Pos, "give both, or neither for 22 cities of the world", "network: regions and rtt go together")
}

func (r *reader) regions(n *document.Node, w *Network) {
	w.Regions = nil
	for _, item := range r.list("network.regions", n, maxRegions) {
		g := Region{Share: 1}
		r.fields(item, "network.regions", map[string]field{
			"name":  r.text("network.regions.name", &g.Name),
			"share": r.whole("network.regions.share", 1, million, func(v int64) { g.Share = v }),
		})
		w.Regions = append(w.Regions, g)
	}
}

func (r *reader) rtt(n *document.Node, w *Network) {
	w.RTT = nil
	for _, row := range r.list("network.rtt", n, maxRegions) {
		var out []int64
		for _, item := range r.list("network.rtt", row, maxRegions) {
			var v int64
			r.duration("network.rtt", 0, 60*second, &v)(item)
			out = append(out, v)
		}
		w.RTT = append(w.RTT, out)
	}
}

func (r *reader) machines(n *document.Node, s *Scenario) {
	for _, item := range r.list("machines", n, maxStreams) {
		m := defaultMachine()
		m.Name = fmt.Sprintf("machine-%d", len(s.Machines)+1)
		bytes := func(to *int64) func(float64) { return func(v float64) { *to = int64(v) } }
		r.fields(item, "machines", map[string]field{
			"name":    r.text("machines.name", &m.Name),
			"share":   r.whole("machines.share", 1, million, func(v int64) { m.Share = v }),
			"cores":   r.count("machines.cores", 1, workload.MaxCPUs, &m.Cores),
			"threads": r.count("machines.threads", 1, 8, &m.Threads),
			"memory":  r.figure("machines.memory", bytesOf, 1<<20, 1<<50, bytes(&m.Memory)),
			"disk":    r.figure("machines.disk", bytesOf, 0, 1<<50, bytes(&m.Disk)),
			"speed":   r.dist("machines.speed", times, &m.Speed),
			"price":   r.dist("machines.price", plain, &m.Price),
			"slope":   r.whole("machines.slope", 0, 100_000, func(v int64) { m.Slope = v }),
			"watts":   func(n *document.Node) { r.watts(n, &m) },
			"smt":     r.figure("machines.smt", times, 1000, 8000, func(v float64) { m.SMT = int64(v) }),
		})
		if m.SMT > 1000*int64(m.Threads) {
			r.fail(item.Pos, "", "machines.smt: %d threads of a core are at most %d times as fast as one", m.Threads, m.Threads)
		}
		if m.Cores == 0 && item.Get("cores") == nil {
			r.fail(item.Pos, "", "machines: cores is missing")
		}
		s.Machines = append(s.Machines, m)
	}
}

// watts reads the power of a machine.
func (r *reader) watts(n *document.Node, m *Machine) {
	milli := func(to *int64) func(float64) { return func(v float64) { *to = int64(1000 * v) } }
	r.fields(n, "machines.watts", map[string]field{
		"idle": r.figure("machines.watts.idle", plain, 0, million, milli(&m.Idle)),
		"busy": r.figure("machines.watts.busy", plain, 0, million, milli(&m.Busy)),
	})
	if m.Busy < m.Idle || m.Busy == 0 {
		r.fail(n.Pos, "write watts: {idle: 60, busy: 180}", "machines.watts: busy must be above 0, and not below idle")
	}
}

func (r *reader) workloads(n *document.Node, s *Scenario) {
	for _, item := range r.list("workloads", n, maxStreams) {
		w := defaultWorkloads()
		w.Name = fmt.Sprintf("workload-%d", len(s.Workloads)+1)
		r.fields(item, "workloads", map[string]field{
			"name":      r.text("workloads.name", &w.Name),
			"poisson":   r.figure("workloads.poisson", perSecond, 1, 1e12, func(v float64) { w.Poisson = int64(v) }),
			"clients":   r.count("workloads.clients", 1, maxClients, &w.Clients),
			"think":     r.dist("workloads.think", span, &w.Think),
			"tasks":     r.count("workloads.tasks", 1, MaxTasks, &w.Tasks),
			"shape":     func(n *document.Node) { r.shape(n, &w.Shape) },
			"service":   r.dist("workloads.service", span, &w.Service),
			"max_price": r.whole("workloads.max_price", 0, 1<<40, func(v int64) { w.MaxPrice = v }),
			"timeout":   r.duration("workloads.timeout", ms, int64(workload.MaxTimeout), &w.Timeout),
			"bursts":    func(n *document.Node) { r.bursts(n, &w) },
			"arrivals":  func(n *document.Node) { r.arrivals(n, &w) },
			"verify_by": r.verifyBy(&w),
			"program":   r.figure("workloads.program", bytesOf, 1, mostBlob, func(v float64) { w.Program = int64(v) }),
			"inputs":    r.dist("workloads.inputs", bytesOf, &w.Inputs),
			"runner":    r.runner(&w),
			"start":     r.dist("workloads.start", span, &w.Start),
		})
		r.stream(item, &w)
		if w.Program > 0 || !w.Inputs.IsZero() {
			r.blobDefaults(s)
		}
		s.Workloads = append(s.Workloads, w)
	}
}

func (r *reader) stream(n *document.Node, w *Workloads) {
	switch {
	case n.Kind != document.Map:
	case n.Get("arrivals") != nil:
		for _, name := range []string{"poisson", "clients", "think", "tasks", "service", "bursts"} {
			if other := n.Get(name); other != nil {
				r.fail(other.Pos, "leave it out", "workloads.%s: the arrivals say it", name)
			}
		}
	case (n.Get("poisson") == nil) == (n.Get("clients") == nil):
		r.fail(n.Pos, "write poisson: 100/s for an open stream, or clients: 50 for a closed one", "workloads: want either poisson or clients")
	case n.Get("service") == nil:
		r.fail(n.Pos, "write service: 500ms, or a distribution", "workloads: service is missing")
	case n.Get("think") != nil && n.Get("clients") == nil:
		r.fail(n.Get("think").Pos, "leave it out", "workloads.think: only clients think")
	case len(w.Bursts) > 0 && n.Get("clients") != nil:
		r.fail(n.Get("bursts").Pos, "leave it out, or write poisson", "workloads.bursts: clients come one after another")
	}
}

// bursts reads whiles that follow each other.
func (r *reader) bursts(n *document.Node, w *Workloads) {
	end := int64(0)
	for _, item := range r.list("workloads.bursts", n, maxBursts) {
		var b Burst
		r.fields(item, "workloads.bursts", map[string]field{
			"at":    r.duration("workloads.bursts.at", 0, 24*365*hour, &b.At),
			"for":   r.duration("workloads.bursts.for", ms, 24*365*hour, &b.For),
			"times": r.figure("workloads.bursts.times", times, 1, 1_000_000, func(v float64) { b.Times = int64(v) }),
		})
		switch {
		case b.For == 0 || b.Times == 0:
			r.fail(item.Pos, "write {at: 20s, for: 10s, times: 5}", "workloads.bursts: for and times are needed")
		case b.At < end:
			r.fail(item.Pos, "write them in order", "workloads.bursts: one begins before the other is over")
		}
		end = b.At + b.For
		w.Bursts = append(w.Bursts, b)
	}
}

func (r *reader) shape(n *document.Node, to *workload.Resources) {
	r.fields(n, "workloads.shape", map[string]field{
		"class": func(n *document.Node) {
			if to.Class = workload.Class(n.Text); to.Class != workload.Core && to.Class != workload.Thread && to.Class != workload.Spare {
				r.fail(n.Pos, "write core, thread or spare", "workloads.shape.class: %s is not simulated", shown(n))
			}
		},
		"cpus":   r.whole("workloads.shape.cpus", 1, workload.MaxCPUs, func(v int64) { to.CPUs = int32(v) }),
		"memory": r.figure("workloads.shape.memory", bytesOf, workload.MinMemory, workload.MaxMemory, func(v float64) { to.Memory = int64(v) }),
		"share":  r.truth("workloads.shape.share", &to.Share),
		"disk":   r.figure("workloads.shape.disk", bytesOf, 0, workload.MaxMemory, func(v float64) { to.Disk = int64(v) }),
	})
}

func (r *reader) churn(n *document.Node, c *Churn) {
	c.Absence = chance.Dist{Kind: chance.Exponential, A: float64(60 * second)}
	r.fields(n, "churn", map[string]field{
		"session": r.dist("churn.session", span, &c.Session), "absence": r.dist("churn.absence", span, &c.Absence),
		"departures": func(n *document.Node) {
			for _, item := range r.list("churn.departures", n, maxDepartures) {
				var d Departure
				r.fields(item, "churn.departures", map[string]field{
					"at":    r.duration("churn.departures.at", 0, 24*365*hour, &d.At),
					"share": r.figure("churn.departures.share", percent, 1, million, func(v float64) { d.Share = int64(v) }),
					"back":  r.duration("churn.departures.back", 0, 24*365*hour, &d.Back),
				})
				if d.Share == 0 {
					r.fail(item.Pos, "write share: 30%", "churn.departures: share is missing")
				}
				c.Departures = append(c.Departures, d)
			}
		},
	})
}

func (r *reader) costs(n *document.Node, c *Costs) {
	r.fields(n, "costs", map[string]field{
		"verify": r.duration("costs.verify", 0, second, &c.Verify), "sign": r.duration("costs.sign", 0, second, &c.Sign),
		"message": r.duration("costs.message", 0, second, &c.Message), "fsync": r.dist("costs.fsync", span, &c.Fsync),
	})
}
