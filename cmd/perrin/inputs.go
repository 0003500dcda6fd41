package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/blob"
)

// maxAutoInput bounds what is shipped without being asked for, in bytes.
const maxAutoInput = 1 << 30

// localInput is a file or folder of this machine that a task shall see.
type localInput struct {
	path string // here
	as   string // below the task's working directory, slash-separated
	kind workload.InputKind
	size int64
	exec bool
}

// newInput looks at a file or folder; as is where the task finds it.
func newInput(path, as string) (localInput, error) {
	info, err := os.Stat(path)
	if err != nil {
		return localInput{}, unreadable(path, err)
	}
	in := localInput{path: path, as: as, kind: workload.File, size: info.Size(), exec: info.Mode()&0o111 != 0}
	switch {
	case info.IsDir():
		in.kind, in.exec = workload.Tree, false
		in.size, err = treeSize(path)
	case !info.Mode().IsRegular():
		return in, usagef("only files and folders can be shipped", "%s is neither a file nor a folder", path)
	}
	if err != nil {
		return in, unreadable(path, err)
	}
	return in, nil
}

func treeSize(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}

// String returns what is shipped and how large it is.
func (in localInput) String() string {
	name := in.as
	if in.kind == workload.Tree {
		name += "/"
	}
	return fmt.Sprintf("%s (%s)", terminal.Clean(name, 200), terminal.Size(in.size))
}

// givenInputs resolves --input PATH and --input PATH:AS. Without AS a relative
// path keeps its place, and any other is found under its base name.
func givenInputs(list []string) ([]localInput, error) {
	var out []localInput
	for _, item := range list {
		path, as := item, ""
		if _, err := os.Lstat(item); err != nil {
			if i := strings.LastIndex(item, ":"); i > 0 {
				path, as = item[:i], item[i+1:]
			}
		}
		if as == "" {
			as = placeOf(path)
		}
		in, err := newInput(path, filepath.ToSlash(filepath.Clean(as)))
		if err != nil {
			return nil, err
		}
		if !filepath.IsLocal(in.as) || in.as == "." {
			return nil, usagef("write --input PATH:AS with AS such as data/model.bin", "--input: %.80q has no place below the working directory", item)
		}
		out = append(out, in)
	}
	return out, nil
}

func placeOf(path string) string {
	clean := filepath.Clean(path)
	if filepath.IsLocal(clean) && clean != "." {
		return clean
	}
	abs, err := filepath.Abs(clean)
	if err != nil {
		return filepath.Base(clean)
	}
	return filepath.Base(abs)
}

// autoInputs returns the files and folders below the working directory that
// arguments name, and a sentence for each argument that names something
// outside of it, which is never shipped.
func autoInputs(args []string) (found []localInput, notes []string, err error) {
	var sum int64
	for _, arg := range args {
		if arg == "" || strings.HasPrefix(arg, "-") || len(arg) > 4096 {
			continue
		}
		info, statErr := os.Stat(arg)
		if statErr != nil || !info.IsDir() && !info.Mode().IsRegular() {
			continue
		}
		if why := outside(arg); why != "" {
			notes = append(notes, why)
			continue
		}
		if filepath.IsAbs(arg) { // the node has one of its own
			continue
		}
		in, err := newInput(arg, filepath.ToSlash(filepath.Clean(arg)))
		if err != nil {
			return nil, nil, err
		}
		if sum += in.size; sum > maxAutoInput {
			return nil, nil, usagef("ship it all the same with --input "+arg+", or give --no-auto-input when the argument is no file",
				"%s would ship %s that nobody asked for; the most is %s", arg, terminal.Size(sum), terminal.Size(maxAutoInput))
		}
		found = append(found, in)
	}
	return found, notes, nil
}

// outside explains why an argument that names something is not shipped, or
// returns "": it is shipped, or is what every node has, such as /usr or /proc.
func outside(arg string) string {
	clean := filepath.Clean(arg)
	switch {
	case filepath.IsAbs(arg):
		if workload.HostProgram(clean) || strings.HasPrefix(clean, "/dev/") || strings.HasPrefix(clean, "/proc/") || clean == "/" {
			return ""
		}
		return fmt.Sprintf("not shipped: %s is an absolute path; use --input %s if the program needs it", arg, arg)
	case clean == ".":
		return "not shipped: the whole working directory; use --input for what the program needs"
	case strings.Contains(filepath.ToSlash(arg), ".."):
		if !filepath.IsLocal(arg) || hasDotDot(arg) {
			return fmt.Sprintf("not shipped: %s goes through ..; use --input %s if the program needs it", arg, arg)
		}
	}
	if leavesWorkingDir(clean) {
		return fmt.Sprintf("not shipped: %s links to outside of the working directory; use --input %s if the program needs it", arg, arg)
	}
	return ""
}

func hasDotDot(path string) bool {
	for part := range strings.SplitSeq(filepath.ToSlash(path), "/") {
		if part == ".." {
			return true
		}
	}
	return false
}

func leavesWorkingDir(path string) bool {
	dir, err := filepath.EvalSymlinks(".")
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	real, realErr := filepath.EvalSymlinks(path)
	if err != nil || realErr != nil {
		return true
	}
	if real, err = filepath.Abs(real); err != nil {
		return true
	}
	if cwd, err := filepath.EvalSymlinks(dir); err == nil {
		dir = cwd
	}
	rel, err := filepath.Rel(dir, real)
	return err != nil || !filepath.IsLocal(rel)
}

// merge joins inputs, each place once; what lies inside a folder that is
// shipped anyway is left out. The first of two that claim one place stays, and
// two different ones are an error.
func merge(lists ...[]localInput) ([]localInput, error) {
	var all, out []localInput
	for _, l := range lists {
		all = append(all, l...)
	}
	for i, in := range all {
		double := false
		for k, other := range all {
			same := in.as == other.as
			if same && !sameFile(in.path, other.path) {
				return nil, usagef("give one of them another place with --input PATH:AS", "%s and %s would both be found at %s", in.path, other.path, in.as)
			}
			inside := other.kind == workload.Tree && strings.HasPrefix(in.as, other.as+"/")
			if k != i && inside && !sameFile(in.path, filepath.Join(other.path, strings.TrimPrefix(in.as, other.as+"/"))) {
				return nil, usagef("give one of them another place with --input PATH:AS", "%s would lie inside of %s", in.path, other.path)
			}
			double = double || same && k < i || k != i && inside
		}
		if !double {
			out = append(out, in)
		}
	}
	return out, nil
}

func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// uploader stores local files as blobs, each path once. It may be used from
// any goroutine.
type uploader struct {
	to   api.Backend
	pack func(ctx context.Context, dir string, w io.Writer) error

	mu   sync.Mutex
	done map[string]*upload
}

type upload struct {
	once sync.Once
	ref  workload.Ref
	err  error
}

func newUploader(b api.Backend, pack func(context.Context, string, io.Writer) error) *uploader {
	return &uploader{to: b, pack: pack, done: map[string]*upload{}}
}

// put stores a file, or a folder as an archive, and returns its blob.
func (u *uploader) put(ctx context.Context, path string, kind workload.InputKind) (workload.Ref, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return workload.Ref{}, fmt.Errorf("upload %s: %w", path, err)
	}
	u.mu.Lock()
	up := u.done[abs]
	if up == nil {
		up = &upload{}
		u.done[abs] = up
	}
	u.mu.Unlock()
	up.once.Do(func() {
		if kind == workload.Tree {
			up.ref, up.err = u.putTree(ctx, path)
		} else {
			up.ref, up.err = u.putFile(ctx, path)
		}
	})
	return up.ref, up.err
}

func (u *uploader) putFile(ctx context.Context, path string) (workload.Ref, error) {
	f, err := os.Open(path)
	if err != nil {
		return workload.Ref{}, unreadable(path, err)
	}
	defer f.Close()
	ref, err := u.to.PutBlob(ctx, f)
	return ref, uploadError(path, err)
}

func (u *uploader) putTree(ctx context.Context, dir string) (workload.Ref, error) {
	if u.pack == nil {
		return workload.Ref{}, failf("ship single files", "%s: this build cannot ship folders", dir)
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(u.pack(ctx, dir, w)) }()
	ref, err := u.to.PutBlob(ctx, r)
	r.CloseWithError(errors.New("upload ended"))
	return ref, uploadError(dir, err)
}

func uploadError(path string, err error) error {
	var p *fs.PathError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, blob.ErrTree):
		return usagef("a folder that is shipped holds files, folders and links that stay inside it; --no-auto-input when the argument is no folder", "%s", err.Error())
	case errors.As(err, &p):
		return unreadable(p.Path, err)
	}
	return fmt.Errorf("upload %s: %w", path, err)
}

// inputs stores each of list and returns how a spec names them.
func (u *uploader) inputs(ctx context.Context, list []localInput) ([]workload.Input, error) {
	out := make([]workload.Input, 0, len(list))
	for _, in := range list {
		ref, err := u.put(ctx, in.path, in.kind)
		if err != nil {
			return nil, err
		}
		out = append(out, workload.Input{Path: in.as, Kind: in.kind, Blob: ref, Exec: in.exec})
	}
	return out, nil
}
