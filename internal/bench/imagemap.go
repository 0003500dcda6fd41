package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// imageMap runs a map of tasks of an image through one daemon, whole path: each task
// is a container of its own, as each of `runc run` is.
func imageMap(ctx context.Context, b *bench, record string, layer layerFile, rivals []runtimeRival) error {
	m, err := b.start(ctx, 1)
	if err != nil {
		return err
	}
	defer m.Stop()
	c, err := m.follower()
	if err != nil {
		return err
	}
	defer c.Close()
	spec := workload.DefaultSpec()
	smallShape(&spec)
	spec.Program = workload.Program{Kind: workload.OCI, Name: "clock", Layers: make([]workload.Ref, 1)}
	if spec.Program.Blob, err = putFile(ctx, c, record); err != nil {
		return err
	}
	if spec.Program.Layers[0], err = putFile(ctx, c, layer.path); err != nil {
		return err
	}
	var rate float64
	var cpu time.Duration
	count := b.sizes.starts / 2
	for _, n := range []int{4, count} { // the first unpacks the image
		spec.Tasks = workload.Tasks{Count: uint32(n)}
		before, began := m.cpu(), time.Now()
		sub, err := c.Submit(ctx, spec)
		if err == nil {
			_, err = ended(ctx, c, sub.ID)
		}
		if err != nil {
			return err
		}
		rate, cpu = float64(n)/time.Since(began).Seconds(), m.cpu()-before
	}
	l := atLeast(fmt.Sprintf("%d tasks of an image as one map, a container each, through one daemon", count), "/s", rate, 40)
	if len(rivals) > 0 {
		bare, err := twoAtOnce(ctx, min(b.sizes.starts/4, 50), rivals[0].run)
		if err != nil {
			return err
		}
		l = l.against(rivals[0].name+" run, two at once", bare)
	}
	b.out.add(l)
	b.out.cpu("the same: CPU of the daemon and the programs a task", millis(cpu)/float64(count))
	return nil
}

func putFile(ctx context.Context, c *api.Client, path string) (workload.Ref, error) {
	f, err := os.Open(path)
	if err != nil {
		return workload.Ref{}, err
	}
	defer f.Close()
	return c.PutBlob(ctx, f)
}
