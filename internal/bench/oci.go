package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/oci"
	"github.com/perrin-mesh/perrin/workload/oci/image"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// imageStarts measures what a container image costs that lies unpacked on the
// node, with the runner alone, beside `runc run` of the same program.
func imageStarts(ctx context.Context, b *bench) error {
	program, name := noopProgram()
	if program == nil {
		b.out.note("an image is measured on amd64 only: elsewhere %s would have to be in it", name)
		return nil
	}
	s, err := newStarter(b)
	if err != nil {
		return err
	}
	defer s.close()
	images, err := oci.New(oci.Config{Host: s.host, Dir: filepath.Join(b.tmp, "images"), Limit: 1 << 30, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer images.Close()
	s.r = images
	record, layer, err := clockImage(s.dir)
	if err != nil {
		return err
	}
	s.prepare = func(spec *workload.Spec, slot *runner.Slot) {
		spec.Program.Kind, spec.Program.Layers = workload.OCI, []workload.Ref{{Digest: workload.Digest{1}, Size: layer.size}}
		slot.Layer = func(int) (string, error) { return layer.path, nil }
	}
	runc, err := runcOf(ctx, b)
	if err != nil {
		return err
	}
	return s.images(ctx, b, record, runc)
}

// runcOf returns a function that runs the clock by runc once, or nil.
func runcOf(ctx context.Context, b *bench) (func(context.Context) error, error) {
	if _, err := exec.LookPath("runc"); err != nil {
		b.out.note("rival: runc is not installed")
		return nil, nil
	}
	bundle, err := ociBundle(ctx, b, elf(clockCode))
	if err != nil {
		return nil, err
	}
	var n atomic.Int64
	run := func(ctx context.Context) error {
		out, err := exec.CommandContext(ctx, "runc", "run", "--bundle", bundle, fmt.Sprintf("perrin-bench-%d-%d", os.Getpid(), n.Add(1))).CombinedOutput()
		if err != nil {
			return fmt.Errorf("runc: %w: %.300s", err, out)
		}
		return nil
	}
	if err := run(ctx); err != nil {
		b.out.note("rival: it does not run here: %v", err)
		return nil, ctx.Err()
	}
	return run, nil
}

// images is one start at a time, and then two at once.
func (s *starter) images(ctx context.Context, b *bench, record string, runc func(context.Context) error) error {
	if _, err := s.attempt(ctx, record, nil); err != nil { // unpacks it
		return err
	}
	var ours, bare []float64
	for range min(b.sizes.starts, 100) {
		took, err := s.attempt(ctx, record, nil)
		if err != nil {
			return err
		}
		ours = append(ours, millis(took))
		if runc != nil {
			began := time.Now()
			if err := runc(ctx); err != nil {
				return err
			}
			bare = append(bare, millis(time.Since(began)))
		}
		if err := pause(ctx, betweenSubmits); err != nil {
			return err
		}
	}
	rate, err := twoAtOnce(ctx, b.sizes.starts, func(ctx context.Context) error {
		_, err := s.attempt(ctx, record, nil)
		return err
	})
	if err != nil {
		return err
	}
	cold := atMost("image unpacked on the node, runner alone: cold to its first output, p50", "ms", percentile(ours, 50), 60)
	many := atLeast("attempts of an image, each in a sandbox and cgroups of its own, runner alone, two at once", "/s", rate, 40)
	if runc != nil {
		cold = cold.against("runc run, to its end", percentile(bare, 50))
		containers, err := twoAtOnce(ctx, min(b.sizes.starts, 100), runc)
		if err != nil {
			return err
		}
		many = many.against("runc run, two at once", containers)
		b.out.add(atMost("the same as a multiple of runc run", "x", percentile(ours, 50)/percentile(bare, 50), 1.5))
	}
	b.out.add(cold)
	b.out.add(many)
	return nil
}

// layerFile is a layer as a node has it.
type layerFile struct {
	path string
	size int64
}

// clockImage writes an image that holds nothing but the clock: its record and its
// one layer, not compressed.
func clockImage(dir string) (record string, layer layerFile, err error) {
	code := elf(clockCode)
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	err = errors.Join(w.WriteHeader(&tar.Header{Name: "clock", Mode: 0o755, Size: int64(len(code)), Typeflag: tar.TypeReg}), writeAll(w, code), w.Close())
	if err != nil {
		return "", layer, err
	}
	id := workload.DigestOf(archive.Bytes()).String()
	config := fmt.Appendf(nil, `{"architecture":%q,"os":"linux","config":{"Entrypoint":["/clock"]},"rootfs":{"type":"layers","diff_ids":[%q]}}`, runtime.GOARCH, id)
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`,
		workload.DigestOf(config).String(), len(config), id, archive.Len())
	raw, err := json.Marshal(image.Record{Manifest: manifest, Config: config})
	record, layer = filepath.Join(dir, "record"), layerFile{filepath.Join(dir, "layer"), int64(archive.Len())}
	return record, layer, errors.Join(err, os.WriteFile(record, raw, 0o644), os.WriteFile(layer.path, archive.Bytes(), 0o644))
}

func writeAll(w *tar.Writer, b []byte) error {
	_, err := w.Write(b)
	return err
}
