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
// node, with the runner alone, beside the same program in each OCI runtime that is
// installed and runs here.
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
	rivals, err := runtimes(ctx, b)
	if err != nil {
		return err
	}
	if err := s.images(ctx, b, record, rivals); err != nil {
		return err
	}
	if err := s.sandboxed(ctx, b, record, images, rivals); err != nil {
		return err
	}
	return imageMap(ctx, b, record, layer, rivals)
}

// runtimeRival is an OCI runtime: it runs the clock once.
type runtimeRival struct {
	name string
	run  func(context.Context) error
}

// runtimes are the rivals that are installed and run here, runc first.
func runtimes(ctx context.Context, b *bench) ([]runtimeRival, error) {
	state := filepath.Join(b.tmp, "runtimes")
	ways := []struct {
		name string
		args []string
	}{
		{"runc", []string{"runc", "--root", state + "-runc"}},
		{"crun", []string{"crun", "--root", state + "-crun"}},
		// crun does not start where both versions of cgroups are mounted.
		{"crun", []string{"unshare", "--mount", "sh", "-c", `umount /sys/fs/cgroup/unified && exec crun "$@"`, "crun", "--root", state + "-crun"}},
		{"runsc", []string{"runsc", "--root", state + "-runsc", "--network=none", "--ignore-cgroups"}},
	}
	var out []runtimeRival
	var why error
	for i, w := range ways {
		last := i == len(ways)-1 || ways[i+1].name != w.name
		if len(out) > 0 && out[len(out)-1].name == w.name {
			continue
		}
		run, err := runtimeOf(ctx, b, w.name, w.args)
		switch why = errors.Join(why, err); {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err == nil:
			out = append(out, runtimeRival{w.name, run})
			why = nil
		case last:
			b.out.note("rival: %v", why)
			why = nil
		}
	}
	return out, nil
}

// runtimeOf returns a function that runs the clock by a runtime once, which works.
func runtimeOf(ctx context.Context, b *bench, name string, command []string) (func(context.Context) error, error) {
	if _, err := exec.LookPath(name); err != nil {
		return nil, fmt.Errorf("%s is not installed", name)
	}
	bundle, err := ociBundle(ctx, b, elf(clockCode))
	if err != nil {
		return nil, err
	}
	var n atomic.Int64
	run := func(ctx context.Context) error {
		id := fmt.Sprintf("perrin-bench-%d-%d", os.Getpid(), n.Add(1))
		args := append(command[1:len(command):len(command)], "run", "--bundle", bundle, id)
		out, err := exec.CommandContext(ctx, command[0], args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s does not run here: %w: %.300s", name, err, out)
		}
		return nil
	}
	return run, run(ctx)
}

// images is one start at a time, and then two at once.
func (s *starter) images(ctx context.Context, b *bench, record string, rivals []runtimeRival) error {
	if _, err := s.attempt(ctx, record, nil); err != nil { // unpacks it
		return err
	}
	var ours []float64
	theirs := make([][]float64, len(rivals))
	for range min(b.sizes.starts/4, 50) { // runsc takes half a second
		took, err := s.attempt(ctx, record, nil)
		if err != nil {
			return err
		}
		ours = append(ours, millis(took))
		for i, r := range rivals {
			began := time.Now()
			if err := r.run(ctx); err != nil {
				return err
			}
			theirs[i] = append(theirs[i], millis(time.Since(began)))
		}
		if err := pause(ctx, betweenSubmits); err != nil {
			return err
		}
	}
	const cold = "image unpacked on the node, runner alone: cold to its first output, p50"
	if len(rivals) == 0 {
		b.out.add(atMost(cold, "ms", percentile(ours, 50), 60))
	}
	for i, r := range rivals {
		b.out.add(atMost(cold, "ms", percentile(ours, 50), 60).against(r.name+" run, to its end", percentile(theirs[i], 50)))
	}
	if len(rivals) > 0 && rivals[0].name == "runc" {
		b.out.add(atMost("the same as a multiple of runc run", "x", percentile(ours, 50)/percentile(theirs[0], 50), 1.5))
	}
	return s.manyImages(ctx, b, record, rivals)
}

func (s *starter) manyImages(ctx context.Context, b *bench, record string, rivals []runtimeRival) error {
	rate, err := twoAtOnce(ctx, b.sizes.starts, func(ctx context.Context) error {
		_, err := s.attempt(ctx, record, nil)
		return err
	})
	if err != nil {
		return err
	}
	const many = "attempts of an image, each in a sandbox and cgroups of its own, runner alone, two at once"
	if len(rivals) == 0 {
		b.out.add(atLeast(many, "/s", rate, 40))
	}
	for _, r := range rivals {
		theirs, err := twoAtOnce(ctx, min(b.sizes.starts/4, 50), r.run)
		if err != nil {
			return err
		}
		b.out.add(atLeast(many, "/s", rate, 40).against(r.name+" run, two at once", theirs))
	}
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
