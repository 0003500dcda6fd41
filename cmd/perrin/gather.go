package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// gatherParallel is how many blobs are fetched at once.
const gatherParallel = 8

// checkOutput refuses a folder that holds anything.
func checkOutput(dir string) error {
	if dir == "" {
		return nil
	}
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return usagef("name a new folder with --output", "--output %s: %w", dir, plain(err))
	case len(entries) > 0:
		return usagef("name a new folder, or empty this one", "--output %s: the folder is not empty", dir)
	}
	return nil
}

// gatherer writes results below dir. Paths in results come from the mesh, so
// all of them are opened through an os.Root, which no path or link leaves.
type gatherer struct {
	b   api.Backend
	id  workload.ID
	dir string
}

func (g *gatherer) root() (*os.Root, error) {
	if err := os.MkdirAll(g.dir, 0o777); err != nil {
		return nil, fmt.Errorf("--output: %w", err)
	}
	return os.OpenRoot(g.dir)
}

// one writes the files of one task straight into the folder.
func (g *gatherer) one(ctx context.Context, res *workload.TaskResult) error {
	root, err := g.root()
	if err != nil {
		return err
	}
	defer root.Close()
	return g.files(ctx, root, ".", res.Outputs)
}

// task writes INDEX/{stdout,stderr,exit} and the files of one task.
func (g *gatherer) task(ctx context.Context, root *os.Root, t *api.Task) error {
	dir := strconv.FormatUint(uint64(t.Index), 10)
	if err := root.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if t.Result == nil {
		return g.write(ctx, root, filepath.Join(dir, "exit"), workload.Ref{}, []byte(string(t.Phase)+"\n"), 0o666)
	}
	exit := fmt.Sprintf("%d\n", t.Result.ExitCode())
	if err := g.write(ctx, root, filepath.Join(dir, "exit"), workload.Ref{}, []byte(exit), 0o666); err != nil {
		return err
	}
	for name, s := range map[string]workload.Stream{"stdout": t.Result.Stdout, "stderr": t.Result.Stderr} {
		if err := g.write(ctx, root, filepath.Join(dir, name), s.Blob, s.Data, 0o666); err != nil {
			return err
		}
	}
	return g.files(ctx, root, dir, t.Result.Outputs)
}

// files writes outputs below dir. A task's own file named stdout, stderr or
// exit goes to files/ beside them.
func (g *gatherer) files(ctx context.Context, root *os.Root, dir string, outputs []workload.Output) error {
	for _, o := range outputs {
		name := filepath.FromSlash(o.Path)
		if !filepath.IsLocal(name) {
			return fmt.Errorf("gather: a task left a file with the path %.100q, which leaves its folder", o.Path)
		}
		if dir != "." && (name == "stdout" || name == "stderr" || name == "exit") {
			name = filepath.Join("files", name)
		}
		name = filepath.Join(dir, name)
		if err := root.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			return fmt.Errorf("gather: %w", err)
		}
		mode := fs.FileMode(0o666)
		if o.Exec {
			mode = 0o777
		}
		if err := g.write(ctx, root, name, o.Blob, o.Data, mode); err != nil {
			return err
		}
	}
	return nil
}

func (g *gatherer) write(ctx context.Context, root *os.Root, name string, ref workload.Ref, data []byte, mode fs.FileMode) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("gather: %w", err)
	}
	err = copyContent(ctx, g.b, g.id, f, ref, data)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("gather %s: %w", name, err)
	}
	return nil
}

// copyContent writes a result's content, which is data when it is small and
// else the blob.
func copyContent(ctx context.Context, b api.Backend, id workload.ID, w io.Writer, ref workload.Ref, data []byte) error {
	if ref.IsZero() || ref.Size == 0 || len(data) > 0 {
		_, err := io.Copy(w, bytes.NewReader(data))
		return err
	}
	r, err := openResult(ctx, b, id, ref)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, r.Close())
}

// all gathers every task of a workload.
func (g *gatherer) all(ctx context.Context, total uint32) error {
	root, err := g.root()
	if err != nil {
		return err
	}
	defer root.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(gatherParallel)
	err = eachTask(ctx, g.b, g.id, total, func(t api.Task) error {
		group.Go(func() error { return g.task(ctx, root, &t) })
		return nil
	})
	return errors.Join(group.Wait(), err)
}

// taskPage is how many tasks are asked for at once.
const taskPage = 1000

// eachTask calls do with the tasks of a workload in index order.
func eachTask(ctx context.Context, b api.Backend, id workload.ID, total uint32, do func(api.Task) error) error {
	for from := uint32(0); from < total; {
		page, err := b.Tasks(ctx, id, from, taskPage)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return fmt.Errorf("workload %s has %d tasks, and the daemon shows only %d", id.Short(), total, from)
		}
		for _, t := range page {
			if err := do(t); err != nil {
				return err
			}
		}
		from += uint32(len(page))
	}
	return nil
}
