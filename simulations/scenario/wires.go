package scenario

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

// Bandwidth is what each peer's own line carries: a queue out and a queue in, in the
// order in which things come. Messages wait at most Buffer for content that is being
// moved, since other connections share the line with it; among themselves they wait
// their turn.
type Bandwidth struct {
	Up     chance.Dist `json:"up"`     // bytes a second, drawn once for each peer
	Down   chance.Dist `json:"down"`   // bytes a second
	Buffer int64       `json:"buffer"` // ns
}

// Blobs is how content is kept and moved that workloads need.
type Blobs struct {
	Keep int64  `json:"keep"` // bytes that a peer keeps; the oldest goes first
	From string `json:"from"` // whom a worker asks: Holders or Anyone
}

// Whom a worker asks for what a workload needs: as the product does the voters of
// the cell and the node that it was submitted on; or also every worker of the
// cell that has fetched it.
const (
	Holders = "holders"
	Anyone  = "anyone"
)

// The runners of the product, which begin in different times.
const (
	Wasm    = "wasm"
	Process = "process"
	OCI     = "oci"
	GVisor  = "gvisor"
	VM      = "vm"
)

// runners are the times from an award's arrival to the first instruction. Three have
// medians that docs/performance.md measured: a process in its sandbox 2.74 ms, an image
// that is unpacked on the node 10.5 ms, gVisor 105 ms to its first output. Two are
// estimates: a wasm task, which begins in a worker that waits, from submission 3.25 ms
// sooner than a process (7.95 ms for 11.2), so under 1 ms; a virtual machine, which boots
// Debian's cloud kernel under QEMU without KVM in 4 to 6 s. All spreads are assumed.
var runners = map[string]chance.Dist{
	Wasm:    {Kind: chance.LogNormal, A: float64(ms), B: 0.4, Max: second},
	Process: {Kind: chance.LogNormal, A: 2.74 * float64(ms), B: 0.4, Max: second},
	OCI:     {Kind: chance.LogNormal, A: 10.5 * float64(ms), B: 0.4, Max: second},
	GVisor:  {Kind: chance.LogNormal, A: 105 * float64(ms), B: 0.2, Max: 10 * second},
	VM:      {Kind: chance.LogNormal, A: 5 * float64(second), B: 0.1, Max: 60 * second},
}

// StartOf is how long slots of a stream take from an award's arrival, and from when
// all that it needs is there, to the first instruction.
func (s *Scenario) StartOf(w *Workloads) *chance.Dist {
	if !w.Start.IsZero() {
		return &w.Start
	}
	return &s.Start
}

// runner reads who runs a stream, and with it how long a start takes.
func (r *reader) runner(w *Workloads) field {
	return func(n *document.Node) {
		d, ok := runners[n.Text]
		if !ok {
			r.fail(n.Pos, "write "+strings.Join([]string{Wasm, Process, OCI, GVisor}, ", ")+" or "+VM, "workloads.runner: there is no %s", shown(n))
			return
		}
		if w.Runner = n.Text; w.Start.IsZero() {
			w.Start = d
		}
	}
}

const (
	leastLine = 1 << 10 // bytes a second
	mostLine  = 1 << 40
	mostBlob  = 64 << 30 // blob.MaxSize
)

func (r *reader) bandwidth(n *document.Node, w *Network) {
	b := &Bandwidth{Buffer: 50 * ms}
	r.fields(n, "network.bandwidth", map[string]field{
		"up": r.dist("network.bandwidth.up", bitRate, &b.Up), "down": r.dist("network.bandwidth.down", bitRate, &b.Down),
		"buffer": r.duration("network.bandwidth.buffer", 0, 10*second, &b.Buffer),
	})
	w.Bandwidth = b
	if n.Kind != document.Map {
		return
	}
	for _, side := range []struct {
		name string
		d    chance.Dist
	}{{"up", b.Up}, {"down", b.Down}} {
		switch at := n.Get(side.name); {
		case at == nil:
			r.fail(n.Pos, "write bandwidth: {up: 20Mbit/s, down: 100Mbit/s}", "network.bandwidth.%s is missing", side.name)
		case len(r.errs) == 0 && (side.d.A < leastLine || side.d.A > mostLine || side.d.Kind == chance.Uniform && side.d.B > mostLine):
			r.fail(at.Pos, "want 8.2kbit/s to 8Tbit/s", "network.bandwidth.%s is out of its range", side.name)
		}
	}
}

// bitRate is bits a second as bytes a second: "20Mbit/s".
func bitRate(n *document.Node) (float64, error) {
	for _, unit := range []struct {
		suffix string
		factor float64
	}{{"kbit/s", 1e3}, {"Mbit/s", 1e6}, {"Gbit/s", 1e9}, {"Tbit/s", 1e12}, {"bit/s", 1}} {
		digits, ok := strings.CutSuffix(n.Text, unit.suffix)
		if !ok {
			continue
		}
		if v, err := strconv.ParseFloat(strings.TrimSpace(digits), 64); err == nil && v > 0 {
			return v * unit.factor / 8, nil
		}
		break
	}
	return 0, fmt.Errorf("want a rate such as 20Mbit/s or 1Gbit/s, got %s", shown(n))
}

func (r *reader) blobs(n *document.Node, b *Blobs) {
	r.fields(n, "blobs", map[string]field{
		"keep": r.figure("blobs.keep", bytesOf, 1<<20, 1<<50, func(v float64) { b.Keep = int64(v) }),
		"from": func(n *document.Node) {
			if b.From = n.Text; b.From != Holders && b.From != Anyone {
				r.fail(n.Pos, "write holders, as the product does, or anyone", "blobs.from: there is no %s", shown(n))
			}
		},
	})
}

// checkWires refuses content that nothing carries.
func (r *reader) checkWires(root *document.Node, s *Scenario) {
	moves := false
	for i := range s.Workloads {
		w := &s.Workloads[i]
		at := root.Get("workloads").Items[i].Pos
		moves = moves || w.Program > 0 || !w.Inputs.IsZero()
		switch {
		case (w.Program > 0 || !w.Inputs.IsZero()) && s.Network.Bandwidth == nil:
			r.fail(at, "write network: {bandwidth: {up: 20Mbit/s, down: 100Mbit/s}}", "workloads: the program and inputs of %s would be moved in no time without network.bandwidth", w.Name)
		case !w.Inputs.IsZero() && w.Inputs.Kind != chance.Fixed && w.Inputs.Max == 0:
			r.fail(at, "write max: 1GiB beside it", "workloads.inputs: a distribution of sizes needs a max")
		case max(w.Inputs.A, float64(w.Inputs.Max)) > mostBlob:
			r.fail(at, "make it smaller", "workloads.inputs: a blob has at most 64 GiB")
		}
	}
	if b := root.Get("blobs"); b != nil && !moves {
		r.fail(b.Pos, "write program: 20MiB or inputs: 5MiB in a stream of workloads, or leave blobs out", "blobs: no workload has a program or inputs")
	}
}

// blobDefaults are of scenarios in which something is moved.
func (r *reader) blobDefaults(s *Scenario) {
	if s.Blobs.Keep == 0 {
		s.Blobs.Keep = 20 << 30
	}
	if s.Blobs.From == "" {
		s.Blobs.From = Holders
	}
}
