package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/devmesh"
)

// sample is what a node has used and sent at one moment.
type sample struct {
	name string
	usage
	sent, received float64 // bytes of UDP payload
	at             time.Time
}

// sampleOf reads a daemon's counters, which sends nothing, and what the kernel
// says of its processes.
func sampleOf(member *devmesh.Member) (s sample, err error) {
	c, err := api.Dial(member.Socket)
	if err != nil {
		return s, err
	}
	defer c.Close()
	var text bytes.Buffer
	if err := c.Metrics(&text); err != nil {
		return s, err
	}
	s = sample{name: member.Name, usage: usageOf(member.PID), at: time.Now()}
	sent, ok := metric(text.String(), "perrin_mesh_bytes_sent")
	received, also := metric(text.String(), "perrin_mesh_bytes_received")
	if !ok || !also {
		return s, errors.New("a daemon's metrics have no bytes sent and received")
	}
	s.sent, s.received = sent, received
	return s, nil
}

// metric finds a value in the Prometheus text format.
func metric(text, name string) (float64, bool) {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return v, err == nil
		}
	}
	return 0, false
}

// roles asks each daemon what it is in its cell.
func (m *mesh) roles(ctx context.Context) ([]string, error) {
	var out []string
	for _, member := range m.Members {
		st, err := statusOf(ctx, member)
		if err != nil {
			return nil, err
		}
		out = append(out, roleOf(st))
	}
	return out, nil
}

func roleOf(st *api.Status) string {
	home := st.Cells[0]
	switch {
	case home.Leader == st.Node:
		return "leader"
	case slices.Contains(home.Voters, st.Node):
		return "follower"
	case slices.Contains(home.Standby, st.Node):
		return "standby"
	}
	return "plain member"
}

// wireLimits are bytes a second, both ways together, by role.
var wireLimits = map[string]float64{"leader": 14_000, "follower": 4_000, "standby": 4_000, "plain member": 1_000}

// settled is how long a mesh is left alone before it is watched.
const settled = 15 * time.Second

// idleAndStorm watches a mesh of five nodes that do nothing, and the same with a
// sixth: with five, all are voters or standbys. Then it runs many tasks and
// looks at the memory again.
func idleAndStorm(ctx context.Context, b *bench) error {
	m, err := b.start(ctx, 5)
	if err != nil {
		return err
	}
	defer m.Stop()
	five, err := b.watch(ctx, m)
	if err != nil {
		return err
	}
	b.memory(five)
	for _, role := range []string{"leader", "follower", "standby"} {
		b.wire(five, role, "5 nodes")
	}
	if _, err := m.Grow(ctx); err != nil {
		return err
	}
	if err := m.whole(ctx); err != nil {
		return err
	}
	six, err := b.watch(ctx, m)
	if err != nil {
		return err
	}
	b.wire(six, "plain member", "6 nodes")
	return b.stormed(ctx, m)
}

// whole waits until the last node's offer is known.
func (m *mesh) whole(ctx context.Context) error {
	for {
		st, err := statusOf(ctx, m.Members[m.leader])
		if err == nil && st.Capacity.Total.Cores == int32(len(m.Members)*m.b.cores) {
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return errors.New("the mesh did not become whole")
		}
	}
}

// span is a node at the beginning and at the end of a watch.
type span struct {
	role     string
	from, to sample
}

func (s span) seconds() float64 { return s.to.at.Sub(s.from.at).Seconds() }

// wire is bytes a second, both ways.
func (s span) wire() float64 {
	return (s.to.sent + s.to.received - s.from.sent - s.from.received) / s.seconds()
}

// core is how much of a core was used, in percent.
func (s span) core() float64 { return (s.to.cpu - s.from.cpu).Seconds() / s.seconds() * 100 }

// watch leaves a mesh alone and returns what each node did meanwhile. It asks
// for the roles outside of that time: to be asked is traffic.
func (b *bench) watch(ctx context.Context, m *mesh) ([]span, error) {
	roles, err := m.roles(ctx)
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, min(settled, b.sizes.idle)); err != nil {
		return nil, err
	}
	spans := make([]span, len(m.Members))
	for i, member := range m.Members {
		if spans[i].from, err = sampleOf(member); err != nil {
			return nil, err
		}
	}
	idle := func() error { return pause(ctx, b.sizes.idle) }
	if err := m.profiled(ctx, fmt.Sprintf("idle-%d", len(m.Members)), idle); err != nil {
		return nil, err
	}
	for i, member := range m.Members {
		if spans[i].to, err = sampleOf(member); err != nil {
			return nil, err
		}
	}
	after, err := m.roles(ctx)
	if err != nil {
		return nil, err
	}
	for i := range spans {
		spans[i].role = after[i]
		if after[i] != roles[i] {
			b.out.note("%s was %s and became %s", spans[i].to.name, roles[i], after[i])
		}
	}
	return spans, nil
}

// memory adds the memory and CPU of the node that uses most of each.
func (b *bench) memory(spans []span) {
	big := slices.MaxFunc(spans, func(x, y span) int { return int(x.to.rss - y.to.rss) })
	busy := slices.MaxFunc(spans, func(x, y span) int { return int(x.core()*1e6 - y.core()*1e6) })
	window := b.sizes.idle
	b.out.add(atMost("idle node, the largest of 5: RSS of all its processes", "MiB", float64(big.to.rss)/(1<<20), 80).
		noting("%s: %d processes, PSS %.1f MiB", big.role, big.to.procs, float64(big.to.pss)/(1<<20)))
	b.out.add(atMost("idle node, the busiest of 5: of a core", "%", busy.core(), 1).noting("%s, over %s", busy.role, window))
}

// wire adds the traffic of the node of a role that has most of it.
func (b *bench) wire(spans []span, role, where string) {
	most, found := span{}, false
	for _, s := range spans {
		if s.role == role && (!found || s.wire() > most.wire()) {
			most, found = s, true
		}
	}
	if !found {
		b.out.note("no %s in a mesh of %s", role, where)
		return
	}
	sent := (most.to.sent - most.from.sent) / most.seconds() / 1000
	b.out.add(atMost(fmt.Sprintf("idle %s, %s: UDP payload both ways", role, where), "KB/s", most.wire()/1000, wireLimits[role]/1000).
		noting("%.2f KB/s of it sent, %.2f %% of a core, over %.0f s", sent, most.core(), most.seconds()))
}

// stormed runs many tasks in one map and looks at the busiest node's memory.
func (b *bench) stormed(ctx context.Context, m *mesh) error {
	c, err := m.follower()
	if err != nil {
		return err
	}
	defer c.Close()
	cpu := m.cpu()
	took, err := runMap(ctx, c, b.sizes.storm)
	if err != nil {
		return err
	}
	each := millis(m.cpu()-cpu) / float64(b.sizes.storm)
	var largest usage
	for _, member := range m.Members {
		if u := usageOf(member.PID); u.rss > largest.rss {
			largest = u
		}
	}
	b.out.add(atMost(fmt.Sprintf("the largest of 6 after %d tasks: RSS", b.sizes.storm), "MiB", float64(largest.rss)/(1<<20), 250).
		noting("PSS %.1f MiB; %.0f tasks/s, %.2f ms of CPU a task", float64(largest.pss)/(1<<20), float64(b.sizes.storm)/took.Seconds(), each))
	return nil
}
