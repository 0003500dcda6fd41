package node

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// flood is what became of many submits at once.
type flood struct {
	mu    sync.Mutex
	acked []workload.ID
	busy  int
	other []error
	slow  time.Duration // the slowest answer
}

func (f *flood) add(sub *api.Submitted, err error, took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.slow = max(f.slow, took)
	switch {
	case err == nil:
		f.acked = append(f.acked, sub.ID)
	case api.KindOf(err) == api.Busy && strings.Contains(api.AsError(err).Hint, "try again"):
		f.busy++
	default:
		f.other = append(f.other, err)
	}
}

// TestAFloodOfSubmits has 1,500 clients submit at the same moment, each over a
// connection of its own, 10,000 workloads in all (1,500 in a quick run). Each
// is acknowledged and succeeds, or is told that the daemon is busy; none is left
// without an answer, and the daemon goes on.
func TestAFloodOfSubmits(t *testing.T) {
	if testing.Short() {
		t.Skip("1,500 clients are too long for a short run")
	}
	const clients = 1500
	each := max(1, (full(10_000, 0)+clients-1)/clients)
	socket := filepath.Join(t.TempDir(), "s")
	n := oneNode(t, Config{
		Data: t.TempDir(), Cores: 16, Memory: 64 << 30, Socket: socket,
		Runners: map[workload.Kind]runner.Runner{workload.Wasm: nullRunner{}},
	})
	spec := wasmSpec(t, n, noop, 1)
	before := measure(t, n)
	var all sync.WaitGroup
	start, f := make(chan struct{}), &flood{}
	for range clients {
		c, err := api.Dial(socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		all.Go(func() {
			<-start
			for range each {
				began := time.Now()
				sub, err := c.Submit(t.Context(), spec)
				f.add(sub, err, time.Since(began))
			}
		})
	}
	began := time.Now()
	close(start)
	all.Wait()
	answered := time.Since(began)
	for _, err := range f.other {
		t.Errorf("neither taken on nor told to come back: %v", err)
	}
	for _, id := range f.acked {
		if w := ends(t, n.Backend(), id); w.Phase != workload.Succeeded {
			t.Errorf("%s was acknowledged and %s: %s", id, w.Phase, w.Reason)
		}
	}
	t.Logf("%d submits from %d clients answered in %v (the slowest took %v): %d acknowledged and done after %v, %d told to come back; before %v, after %v",
		clients*each, clients, answered, f.slow, len(f.acked), time.Since(began), f.busy, before, measure(t, n))
	if len(f.acked) == 0 {
		t.Error("none was acknowledged")
	}
	if _, w := run(t, n.Backend(), spec); w.Phase != workload.Succeeded {
		t.Errorf("after the flood: %s", w.Reason)
	}
}
