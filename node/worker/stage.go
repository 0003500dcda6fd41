package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/blob"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// stage is what a slot's tasks need on this host: the program, the table of
// tasks, and inputs as files and folders that can be mounted.
type stage struct {
	s       *slot
	program string
	parts   []string // of the program
	table   []workload.Task
	shared  []runner.Mount // what every task sees
	trees   map[workload.Ref]string
	owner   string                // of the pins
	files   map[workload.Ref]bool // of sealed work: contents that lie in the slot's folder
}

func prepareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	return nil
}

// newStage fetches what all tasks of the slot share.
func newStage(s *slot) (*stage, error) {
	st := &stage{s: s, trees: map[workload.Ref]string{}, owner: "slot/" + keyText(s.key), files: map[workload.Ref]bool{}}
	spec := s.work
	var err error
	if !spec.Program.Blob.IsZero() {
		if st.program, err = st.file(spec.Program.Blob); err != nil {
			return st, fmt.Errorf("program: %w", err)
		}
	}
	for _, ref := range spec.Program.Parts {
		part, err := st.file(ref)
		if err != nil {
			return st, fmt.Errorf("part of the program: %w", err)
		}
		st.parts = append(st.parts, part)
	}
	if st.table, err = st.tasks(); err != nil {
		return st, fmt.Errorf("task table: %w", err)
	}
	if st.shared, err = st.mounts(spec.Inputs); err != nil {
		return st, err
	}
	secrets, err := st.secrets()
	if err != nil {
		return st, err
	}
	after, err := st.afterMounts()
	st.shared = append(append(st.shared, secrets...), after...)
	return st, err
}

func (st *stage) close() { st.s.w.cfg.Blobs.Unpin(st.owner) }

// fetch brings a blob here and keeps it for as long as the slot stands.
func (st *stage) fetch(ref workload.Ref) error {
	store := st.s.w.cfg.Blobs
	store.Pin(st.owner, ref)
	if store.Has(ref) {
		return nil
	}
	return st.s.w.cfg.Fetch.Fetch(st.s.bringing, ref, st.s.holders)
}

func (st *stage) file(ref workload.Ref) (string, error) {
	if err := st.fetch(ref); err != nil {
		return "", err
	}
	if st.s.secret != nil {
		return st.revealed(ref)
	}
	return st.s.w.cfg.Blobs.Path(ref)
}

// layer brings a layer of the spec's image here.
func (st *stage) layer(i int) (string, error) {
	layers := st.s.work.Program.Layers
	if i >= len(layers) {
		return "", fmt.Errorf("layer %d of %d", i, len(layers))
	}
	return st.file(layers[i])
}

// maxTable bounds the encoded table of tasks in bytes.
const maxTable = 256 << 20

func (st *stage) tasks() ([]workload.Task, error) {
	t := st.s.work.Tasks
	if t.Table.IsZero() {
		return t.Inline, nil
	}
	if err := st.fetch(t.Table); err != nil {
		return nil, err
	}
	if st.s.secret != nil {
		return ReadTableSealed(st.s.w.cfg.Blobs, t, st.s.secret)
	}
	return ReadTable(st.s.w.cfg.Blobs, t)
}

// ReadTable reads and checks the table of a workload's tasks from the store.
func ReadTable(store *blob.Store, t workload.Tasks) ([]workload.Task, error) {
	raw, err := store.ReadAll(t.Table, maxTable)
	if err != nil {
		return nil, err
	}
	return decodeTable(raw, t)
}

func decodeTable(raw []byte, t workload.Tasks) ([]workload.Task, error) {
	var table workload.TaskTable
	if err := wire.UnmarshalBulk(raw, &table); err != nil {
		return nil, err
	}
	if len(table.Tasks) != int(t.Count) {
		return nil, fmt.Errorf("the table has %d tasks, the spec %d", len(table.Tasks), t.Count)
	}
	return table.Tasks, nil
}

// task returns what is a task's own.
func (st *stage) task(i uint32) (workload.Task, error) {
	if len(st.table) == 0 {
		return workload.Task{}, nil
	}
	if int(i) >= len(st.table) {
		return workload.Task{}, fmt.Errorf("task %d of %d", i, len(st.table))
	}
	task := st.table[i]
	return task, workload.ValidateInputs(task.Inputs)
}

// mounts stages inputs: files are shown from the store, folders are unpacked
// once for the slot.
func (st *stage) mounts(inputs []workload.Input) ([]runner.Mount, error) {
	var out []runner.Mount
	for _, in := range inputs {
		source, err := st.input(in)
		if err != nil {
			return nil, fmt.Errorf("input %.80q: %w", in.Path, err)
		}
		out = append(out, runner.Mount{Source: source, Target: in.Path})
	}
	return out, nil
}

func (st *stage) input(in workload.Input) (string, error) {
	if in.Kind == workload.File {
		return st.shownFile(in)
	}
	if dir, ok := st.trees[in.Blob]; ok {
		return dir, nil
	}
	if err := st.fetch(in.Blob); err != nil {
		return "", err
	}
	dir := filepath.Join(st.s.dir, "tree-"+in.Blob.Digest.Short())
	if err := st.unpack(in.Blob, dir); err != nil {
		return "", err
	}
	st.trees[in.Blob] = dir
	return dir, nil
}

// shownFile returns the host file of an input. A wasm worker sees its slot's
// folder only, so there the file is linked into that.
func (st *stage) shownFile(in workload.Input) (string, error) {
	source, err := st.file(in.Blob)
	if err != nil || st.s.spec.Program.Kind != workload.Wasm || st.s.secret != nil {
		return source, err
	}
	link := filepath.Join(st.s.dir, "file-"+in.Blob.Digest.Short())
	if err := os.Link(source, link); err != nil && !errors.Is(err, fs.ErrExist) {
		return link, copyFile(source, link)
	}
	return link, nil
}

func copyFile(from, to string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o555)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Close())
}

func (st *stage) unpack(ref workload.Ref, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	r, err := st.s.w.cfg.Blobs.Open(ref)
	if err != nil {
		return err
	}
	defer r.Close()
	limits := blob.DefaultLimits()
	limits.Bytes = min(limits.Bytes, max(ref.Size, st.s.spec.Resources.Disk))
	return blob.UnpackTree(st.s.opened(r), root, limits)
}

// drop removes what only one task needed.
func (st *stage) drop(inputs []workload.Input) {
	for _, in := range inputs {
		if dir, ok := st.trees[in.Blob]; ok && !st.isShared(dir) {
			delete(st.trees, in.Blob)
			if err := os.RemoveAll(dir); err != nil {
				st.s.log.Warn("remove input", "err", err)
			}
		}
		st.s.w.cfg.Blobs.UnpinRefs(st.owner, in.Blob)
	}
	st.dropRevealed(inputs)
	for _, in := range st.s.work.Inputs { // a blob that is a task's and also shared stays
		st.s.w.cfg.Blobs.Pin(st.owner, in.Blob)
	}
}

func (st *stage) isShared(dir string) bool {
	for _, m := range st.shared {
		if m.Source == dir {
			return true
		}
	}
	return false
}

// afterMounts stages the outputs of the workloads that this one comes after:
// after/NAME/INDEX holds stdout, stderr and the files of each task.
func (st *stage) afterMounts() ([]runner.Mount, error) {
	var out []runner.Mount
	for _, a := range st.s.after {
		dir := filepath.Join(st.s.dir, "after-"+a.Name)
		if err := st.gather(a, dir); err != nil {
			return nil, fmt.Errorf("after %.80q: %w", a.Name, err)
		}
		out = append(out, runner.Mount{Source: dir, Target: "after/" + a.Name})
	}
	return out, nil
}

func (st *stage) gather(a wire.AfterOutputs, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	holders := append(a.Holders, st.s.holders...)
	for _, ref := range a.Segments {
		if err := st.gatherSegment(root, ref, holders); err != nil {
			return err
		}
	}
	return nil
}

func (st *stage) gatherSegment(root *os.Root, ref workload.Ref, holders []workload.PeerID) error {
	segment, err := FetchSegment(st.s.bringing, st.s.w.cfg.Blobs, st.s.w.cfg.Fetch, ref, holders)
	if err != nil {
		return err
	}
	get := func(b workload.Ref) (io.ReadCloser, error) {
		if err := st.s.w.cfg.Fetch.Fetch(st.s.bringing, b, append(holders, segment.Node)); err != nil {
			return nil, err
		}
		return st.s.w.cfg.Blobs.Open(b)
	}
	for i := range segment.Results {
		r := &segment.Results[i]
		if len(r.Sealed) > 0 {
			return errors.New("it is sealed: only its owner reads what it left")
		}
		if r.OK() {
			if err := WriteResult(root, r, get); err != nil {
				return err
			}
		}
	}
	return nil
}

// FetchSegment brings a segment here and decodes it.
func FetchSegment(ctx context.Context, store *blob.Store, f Fetcher, ref workload.Ref, holders []workload.PeerID) (*workload.Segment, error) {
	if !store.Has(ref) {
		if err := f.Fetch(ctx, ref, holders); err != nil {
			return nil, err
		}
	}
	raw, err := store.ReadAll(ref, wire.MaxBulk)
	if err != nil {
		return nil, err
	}
	var segment workload.Segment
	if err := wire.Unmarshal(raw, &segment); err != nil {
		return nil, err
	}
	return &segment, nil
}

// WriteResult writes one task's streams and files below root/INDEX. The paths
// come from a stranger, and os.Root keeps them inside.
func WriteResult(root *os.Root, r *workload.TaskResult, get func(workload.Ref) (io.ReadCloser, error)) error {
	base := fmt.Sprint(r.Index)
	put := func(name string, data []byte, ref workload.Ref, exec bool) error {
		return writeOutput(root, path.Join(base, name), data, ref, exec, get)
	}
	if err := put("stdout", r.Stdout.Data, r.Stdout.Blob, false); err != nil {
		return err
	}
	if err := put("stderr", r.Stderr.Data, r.Stderr.Blob, false); err != nil {
		return err
	}
	for _, o := range r.Outputs {
		if o.Path == "stdout" || o.Path == "stderr" || strings.HasPrefix(path.Clean("/"+o.Path), "/..") {
			continue
		}
		if err := put(path.Clean("/" + o.Path)[1:], o.Data, o.Blob, o.Exec); err != nil {
			return err
		}
	}
	return nil
}

func writeOutput(root *os.Root, name string, data []byte, ref workload.Ref, exec bool, get func(workload.Ref) (io.ReadCloser, error)) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	mode := os.FileMode(0o644)
	if exec {
		mode = 0o755
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	if ref.IsZero() {
		_, err = f.Write(data)
		return err
	}
	r, err := get(ref)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(f, r)
	return err
}
