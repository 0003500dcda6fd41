// Package gauge measures once how fast a machine's cores are among themselves:
// what all hyperthreads of a core do together against one alone, and each kind of
// core of a hybrid machine against the fastest. The figures set the price of a
// thread and the score of slower cores.
//
// Load takes the result from a file when it was measured on the same processor
// with the same microcode, and measures otherwise, for at most Budget, where
// there is something to measure: a core with two threads, or two kinds of core.
package gauge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/perrin-mesh/perrin/scheduler/capacity"
)

// Budget is how long a measurement takes in all.
const Budget = 2 * time.Second

// Result is what a machine's cores do, in permille. The zero Result is one with
// nothing to measure.
type Result struct {
	Key    string  `json:"key"`
	SMT    int64   `json:"smt,omitempty"`    // all threads of a core at once against one of them: 1000 to 1000 for each
	Speeds []int64 `json:"speeds,omitempty"` // of each tier, one thread alone: 1 to 1000
}

// meter runs work on CPUs at once for d and returns what they did together per
// second.
type meter func(ctx context.Context, work work, cpus []int, d time.Duration) (float64, error)

// Load returns the machine's result from the file, or measures and keeps it
// there. cpuinfo is the text of /proc/cpuinfo.
func Load(ctx context.Context, topo capacity.Topology, cpuinfo, file string) (Result, error) {
	return load(ctx, topo, cpuinfo, file, run)
}

func load(ctx context.Context, topo capacity.Topology, cpuinfo, file string, run meter) (Result, error) {
	pairs, kinds := samples(topo)
	if len(pairs) == 0 && len(kinds) < 2 {
		return Result{}, nil
	}
	key := keyOf(cpuinfo, topo)
	if old, err := read(file); err == nil && old.Key == key && old.sane(topo) {
		return old, nil
	}
	r := Result{Key: key}
	steps := time.Duration(len(kinds))
	if len(pairs) > 0 {
		steps += 4
	}
	each := Budget / max(steps, 1)
	var err error
	if len(pairs) > 0 {
		if r.SMT, err = smt(ctx, pairs, each, run); err != nil {
			return Result{}, fmt.Errorf("measure hyperthreads: %w", err)
		}
	}
	if len(kinds) > 1 {
		if r.Speeds, err = speeds(ctx, kinds, each, run); err != nil {
			return Result{}, fmt.Errorf("measure kinds of cores: %w", err)
		}
	}
	text, err := json.Marshal(r)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		return r, fmt.Errorf("keep what was measured: %w", err)
	}
	return r, nil
}

// samples returns the threads of a core with siblings, and one thread of each
// tier. The last core of a kind is taken: the first ones serve interrupts.
func samples(topo capacity.Topology) (pair []int, kinds []int) {
	last := map[int]int{}
	tiers := 0
	for _, c := range topo.Cores {
		if len(c.CPUs) > 1 && (c.Tier == 0 || pair == nil) {
			pair = c.CPUs
		}
		last[c.Tier], tiers = c.CPUs[0], max(tiers, c.Tier+1)
	}
	for tier := range tiers {
		if cpu, there := last[tier]; there {
			kinds = append(kinds, cpu)
		}
	}
	return pair, kinds
}

// smt is the gain of all threads of a core at once: the mean of arithmetic, which
// they share the units for, and of waiting for memory, which they hide from each
// other.
func smt(ctx context.Context, cpus []int, each time.Duration, run meter) (int64, error) {
	var sum float64
	for _, w := range []work{arithmetic, memory} {
		alone, err := run(ctx, w, cpus[:1], each)
		if err != nil {
			return 0, err
		}
		all, err := run(ctx, w, cpus, each)
		if err != nil {
			return 0, err
		}
		if alone <= 0 {
			return 0, errors.New("nothing was done")
		}
		sum += all / alone
	}
	return min(max(int64(sum/2*1000), 1000), int64(1000*len(cpus))), nil
}

func speeds(ctx context.Context, kinds []int, each time.Duration, run meter) ([]int64, error) {
	var did []float64
	for _, cpu := range kinds {
		n, err := run(ctx, arithmetic, []int{cpu}, each)
		if err != nil {
			return nil, err
		}
		did = append(did, n)
	}
	best := slices.Max(did)
	if best <= 0 {
		return nil, errors.New("nothing was done")
	}
	out := make([]int64, len(did))
	for i, n := range did {
		out[i] = min(max(int64(n/best*1000), 1), 1000)
	}
	return out, nil
}

// sane reports whether a result could be of such a machine.
func (r *Result) sane(topo capacity.Topology) bool {
	pairs, kinds := samples(topo)
	bad := func(s int64) bool { return s < 1 || s > 1000 }
	return (len(pairs) == 0 || r.SMT >= 1000 && r.SMT <= int64(1000*len(pairs))) &&
		(len(kinds) < 2 || len(r.Speeds) == len(kinds) && !slices.ContainsFunc(r.Speeds, bad))
}

// keyOf names a processor with its microcode and the shape of the machine.
func keyOf(cpuinfo string, topo capacity.Topology) string {
	seen := []string{fmt.Sprintf("%d cores of %d", len(topo.Cores), topo.SMT())}
	for line := range strings.Lines(cpuinfo) {
		name, value, _ := strings.Cut(line, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		told := slices.Contains([]string{"model name", "microcode", "CPU implementer", "CPU part", "CPU variant", "CPU revision", "uarch"}, name)
		if part := name + " " + value; told && !slices.Contains(seen, part) && len(seen) < 64 {
			seen = append(seen, part[:min(len(part), 200)])
		}
	}
	return strings.Join(seen, "; ")
}

// fileBytes bounds the file, in bytes.
const fileBytes = 64 << 10

func read(name string) (r Result, err error) {
	f, err := os.Open(name)
	if err != nil {
		return r, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, fileBytes+1))
	if err != nil || len(text) > fileBytes {
		return r, errors.Join(err, fs.ErrInvalid)
	}
	return r, json.Unmarshal(text, &r)
}
