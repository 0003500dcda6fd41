package vm

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/vm/guestwire"
	"github.com/perrin-mesh/perrin/workload/wasm/frame"
)

// FuzzGuestSays lets a guest say arbitrary bytes to the daemon. The attempt ends
// with a reply or an error, no more is taken for output than was said, and what
// it leaves as its outputs lies below the output folder and within the bound.
func FuzzGuestSays(f *testing.F) {
	said := func(send func(w *frame.Writer) error) []byte {
		var out bytes.Buffer
		if err := send(frame.NewWriter(&out)); err != nil {
			f.Fatal(err)
		}
		return out.Bytes()
	}
	var archive bytes.Buffer
	tw := tar.NewWriter(&archive)
	err := errors.Join(tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o755}),
		tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "d/f", Size: 2, Mode: 0o644}))
	_, werr := tw.Write([]byte("hi"))
	if err := errors.Join(err, werr, tw.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "../../etc"}), tw.Close()); err != nil {
		f.Fatal(err)
	}
	done := func(w *frame.Writer) error {
		return w.SendJSON(frame.Done, 1, guestwire.Reply{Code: 3, Signal: 99, Peak: -1, NoExec: "no\n"})
	}
	f.Add(said(func(w *frame.Writer) error {
		return errors.Join(w.Send(guestwire.Started, 1, nil), w.Send(frame.Stdout, 1, []byte("hi")), w.Send(frame.Stderr, 1, []byte("ho")),
			w.Send(guestwire.StdinMore, 1, binary.BigEndian.AppendUint32(nil, 1<<31)),
			w.Send(guestwire.Output, 1, archive.Bytes()), w.Send(guestwire.Output, 1, nil), done(w))
	}))
	f.Add(said(func(w *frame.Writer) error {
		return errors.Join(w.Send(guestwire.UnitOpen, 1, guestwire.WithConn(1, nil)), w.Send(guestwire.UnitData, 1, guestwire.WithConn(1, []byte("GET /"))),
			w.Send(guestwire.UnitClose, 1, guestwire.WithConn(1, nil)), w.Send(guestwire.UnitData, 0, []byte("x")), done(w))
	}))
	f.Add(said(func(w *frame.Writer) error {
		return errors.Join(w.Send(guestwire.Started, 1, nil), w.Send(guestwire.Started, 1, nil))
	}))
	f.Add(said(func(w *frame.Writer) error { return w.Send(guestwire.Output, 2, []byte("x")) }))
	f.Add([]byte{byte(frame.Done), 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, raw []byte) {
		dir := t.TempDir()
		out := filepath.Join(dir, "out")
		if err := os.Mkdir(out, 0o755); err != nil {
			t.Fatal(err)
		}
		spec := workload.DefaultSpec()
		spec.Resources.Disk = 1 << 20
		var stdout, stderr bytes.Buffer
		began := 0
		r := &run{m: &machine{in: frame.NewReader(bytes.NewReader(raw)), out: frame.NewWriter(io.Discard)}, id: 1, spec: &spec,
			a:     runner.Attempt{Stdout: &stdout, Stderr: &stderr, Out: out, Unit: func() (string, error) { return "", errors.New("none") }},
			began: func() { began++ }}
		_, err := r.drive()
		if stdout.Len()+stderr.Len() > len(raw) || began > 1 {
			t.Errorf("%d bytes of output of %d that were said, began %d times", stdout.Len()+stderr.Len(), len(raw), began)
		}
		if err != nil && !errors.Is(err, frame.ErrFrame) && !errors.Is(err, errBrokeOff) {
			t.Errorf("%v, want ErrFrame or a machine that broke off", err)
		}
		files, err := runner.Outputs(out, maxOutputEntries)
		if err != nil {
			t.Fatal(err)
		}
		var size int64
		for _, file := range files {
			size += file.Size
		}
		if size > min(int64(len(raw)), spec.Resources.Disk) {
			t.Errorf("outputs of %d bytes", size)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("beside the output folder: %v, %v", entries, err)
		}
	})
}
