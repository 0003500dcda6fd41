package consensus

import (
	"fmt"
	"sync"
	"testing"
)

// BenchmarkPropose measures proposals from many callers at three voters, in
// memory and on disk with every entry synced (all three share one disk).
func BenchmarkPropose(b *testing.B) {
	for _, storage := range []string{"memory", "disk"} {
		for _, callers := range []int{1, 64, 512, 2048} {
			b.Run(fmt.Sprintf("%s/callers=%d", storage, callers), func(b *testing.B) {
				opts := []func(*cluster){func(c *cluster) { c.timing = Mesh() }}
				if storage == "disk" {
					opts = append(opts, onDisk(newDisks(b)))
				}
				benchmarkPropose(b, newCluster(b, 3, 0, opts...), callers)
			})
		}
	}
}

func benchmarkPropose(b *testing.B, c *cluster, callers int) {
	leader, data := c.leader().group, make([]byte, 256)
	work := make(chan struct{}, callers)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range work {
				if _, _, err := leader.Propose(b.Context(), data); err != nil {
					b.Error(err)
				}
			}
		})
	}
	b.ResetTimer()
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "proposals/s")
}

// BenchmarkVerifyLeader measures the round of heartbeats before a lease.
func BenchmarkVerifyLeader(b *testing.B) {
	c := newCluster(b, 3, 0, func(c *cluster) { c.timing = Mesh() })
	leader := c.leader().group
	b.ResetTimer()
	for range b.N {
		if _, err := leader.VerifyLeader(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
