package vm

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/vm/guestwire"
	"github.com/perrin-mesh/perrin/workload/wasm/frame"
)

// inputPieces sends what is written to it as frames.
type inputPieces struct {
	out *frame.Writer
	id  uint32
}

func (p inputPieces) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		n := min(len(rest), frame.MaxStream)
		if err := p.out.Send(guestwire.Input, p.id, rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(b), nil
}

// sendInputs sends one archive with mount i as "i", and the end. Links are sent
// as links.
func sendInputs(out *frame.Writer, id uint32, mounts []runner.Mount) error {
	tw := tar.NewWriter(inputPieces{out, id})
	for i, m := range mounts {
		if err := sendMount(tw, strconv.Itoa(i), m.Source); err != nil {
			return fmt.Errorf("input %.80q: %w", m.Target, err)
		}
	}
	return errors.Join(tw.Close(), out.Send(guestwire.Input, id, nil))
}

func sendMount(tw *tar.Writer, name, source string) error {
	root, err := os.OpenRoot(filepath.Dir(source))
	if err != nil {
		return err
	}
	defer root.Close()
	base := filepath.Base(source)
	return fs.WalkDir(root.FS(), base, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(base, file)
		if err != nil {
			return err
		}
		return sendEntry(tw, root, path.Join(name, rel), file, d)
	})
}

func sendEntry(tw *tar.Writer, root *os.Root, name, file string, d fs.DirEntry) error {
	h := &tar.Header{Name: name, Mode: 0o755}
	switch {
	case d.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
		return tw.WriteHeader(h)
	case d.Type() == fs.ModeSymlink:
		to, err := root.Readlink(file)
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, to
		return tw.WriteHeader(h)
	case !d.Type().IsRegular():
		return nil
	}
	f, err := root.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h.Typeflag, h.Size, h.Mode = tar.TypeReg, info.Size(), int64(info.Mode().Perm())
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(tw, f)
	return err
}
