package guest

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/perrin-mesh/perrin/workload/vm/guestwire"
	"github.com/perrin-mesh/perrin/workload/wasm/frame"
)

// inputs unpacks the archive that the node sends.
type inputs struct {
	w    *io.PipeWriter
	done chan struct{}
	err  error
}

// newInputs expects an archive, or nothing.
func newInputs(dir string, expected bool) *inputs {
	r, w := io.Pipe()
	in := &inputs{w: w, done: make(chan struct{})}
	if !expected {
		close(in.done)
		return in
	}
	go func() {
		defer close(in.done)
		in.err = unpack(r, dir)
		_, _ = io.Copy(io.Discard, r) // the node sends it to its end
	}()
	return in
}

// feed takes a piece; an empty one is the end.
func (in *inputs) feed(b []byte) error {
	if len(b) == 0 {
		return in.w.Close()
	}
	_, err := in.w.Write(b)
	return err
}

func (in *inputs) wait() error { <-in.done; return in.err }

func unpack(r io.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o755)
		case tar.TypeSymlink:
			err = root.Symlink(h.Linkname, name)
		case tar.TypeReg:
			err = writeFile(root, name, fs.FileMode(h.Mode)&0o777, tr)
		default:
			err = fmt.Errorf("%.100q has type %q", name, h.Typeflag)
		}
		if err != nil {
			return err
		}
	}
}

func writeFile(root *os.Root, name string, mode fs.FileMode, content io.Reader) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

// pieces sends what is written to it as frames of one type.
type pieces struct {
	out  *frame.Writer
	kind frame.Type
	id   uint32
}

func (p pieces) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		n := min(len(rest), frame.MaxStream)
		if err := p.out.Send(p.kind, p.id, rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(b), nil
}

// sendOutputs sends the files and folders below dir, and the end. Links and
// whatever else a command may leave there are no outputs.
func sendOutputs(dir string, out *frame.Writer, id uint32) error {
	to := pieces{out, guestwire.Output, id}
	tw := tar.NewWriter(to)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir || !d.IsDir() && !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return sendEntry(tw, path, name, d)
	})
	return errors.Join(err, tw.Close(), out.Send(guestwire.Output, id, nil))
}

func sendEntry(tw *tar.Writer, path, name string, d fs.DirEntry) error {
	if d.IsDir() {
		return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755})
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	mode := int64(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: mode}); err != nil {
		return err
	}
	_, err = io.Copy(tw, f) // nothing runs any more that could change it
	return err
}
