package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// blobTransfer moves a file from one daemon's store to another's, verified
// chunk by chunk, beside a copy and a checksum of the same file. Both find the
// file in the page cache and neither waits for the disk.
func blobTransfer(ctx context.Context, b *bench) error {
	m, err := b.start(ctx, 2)
	if err != nil {
		return err
	}
	defer m.Stop()
	file := filepath.Join(b.tmp, "blob")
	defer os.Remove(file)
	return m.profiled(ctx, "blob", func() error { return transfers(ctx, b, m, file) })
}

func transfers(ctx context.Context, b *bench, m *mesh, file string) error {
	var ours, rivals []float64
	cpu := time.Duration(0)
	for i := range 3 {
		if err := randomFile(file, b.sizes.blobMiB, uint64(i)); err != nil {
			return err
		}
		rival, err := copyAndSum(ctx, file)
		if err != nil {
			return err
		}
		took, used, err := transfer(ctx, m, file)
		if err != nil {
			return err
		}
		ours, rivals, cpu = append(ours, millis(took)), append(rivals, millis(rival)), cpu+used
	}
	mib := float64(b.sizes.blobMiB)
	our, rival := percentile(ours, 50), percentile(rivals, 50)
	b.out.add(atLeast(fmt.Sprintf("%d MiB between two daemons: speed of cp and sha256sum", b.sizes.blobMiB), "x", rival/our, 0.7).
		noting("%.0f MiB/s, cp and sha256sum %.0f MiB/s, medians of 3; %.2f ms of CPU a MiB on both sides", mib/our*1000, mib/rival*1000, millis(cpu)/3/mib))
	return nil
}

// randomFile writes a file that nothing compresses, another for each seed.
func randomFile(name string, mib int, seed uint64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	var key [32]byte
	key[0] = byte(seed)
	_, err = io.CopyN(f, rand.NewChaCha8(key), int64(mib)<<20)
	return errors.Join(err, f.Close())
}

func copyAndSum(ctx context.Context, file string) (time.Duration, error) {
	copied := file + ".copy"
	defer os.Remove(copied)
	began := time.Now()
	for _, args := range [][]string{{"cp", file, copied}, {"sha256sum", copied}} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("%s: %w: %s", args[0], err, out)
		}
	}
	return time.Since(began), nil
}

// transfer puts the file into the first daemon's store and measures how long
// the second takes to have all of it: its first byte is served after the last
// one has come.
func transfer(ctx context.Context, m *mesh, file string) (took, cpu time.Duration, err error) {
	ref, err := upload(ctx, m.Members[0].Socket, file)
	if err != nil {
		return 0, 0, err
	}
	c, err := api.Dial(m.Members[1].Socket)
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	before := m.cpu()
	began := time.Now()
	r, err := c.OpenBlob(ctx, ref)
	if err != nil {
		return 0, 0, err
	}
	defer r.Close()
	head := make([]byte, 1)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, 0, err
	}
	took, cpu = time.Since(began), m.cpu()-before
	return took, cpu, sameTail(file, r, ref)
}

func upload(ctx context.Context, socket, file string) (ref workload.Ref, err error) {
	c, err := api.Dial(socket)
	if err != nil {
		return ref, err
	}
	defer c.Close()
	f, err := os.Open(file)
	if err != nil {
		return ref, err
	}
	defer f.Close()
	return c.PutBlob(ctx, f)
}

// sameTail checks that the last bytes of what came are those of the file.
func sameTail(file string, r io.ReadSeeker, ref workload.Ref) error {
	const n = 64 << 10
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	want, got := make([]byte, n), make([]byte, n)
	if _, err := f.ReadAt(want, ref.Size-n); err != nil {
		return err
	}
	if _, err := r.Seek(-n, io.SeekEnd); err != nil {
		return err
	}
	if _, err := io.ReadFull(r, got); err != nil {
		return err
	}
	if !bytes.Equal(want, got) {
		return errors.New("what came is not what was sent")
	}
	return nil
}
