package worker

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

func TestSpoolKeepsWhatWasWritten(t *testing.T) {
	for _, size := range []int{0, 1, memorySpool, memorySpool + 1, 5 * memorySpool} {
		s := newSpool(filepath.Join(t.TempDir(), "spool"), 1<<30)
		want := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 1000)
			if _, err := s.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		s.finish()
		got, err := io.ReadAll(s.reader())
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got %d back, %v", size, len(got), err)
		}
		s.close()
	}
}

func TestSpoolStopsAtItsLimit(t *testing.T) {
	s := newSpool(filepath.Join(t.TempDir(), "spool"), 10)
	defer s.close()
	if n, err := s.Write([]byte("0123456789abc")); n != 10 || !errors.Is(err, errSpoolFull) {
		t.Errorf("wrote %d, %v; want 10 and errSpoolFull", n, err)
	}
	if n, err := s.Write([]byte("d")); n != 0 || !errors.Is(err, errSpoolFull) {
		t.Errorf("wrote %d more, %v", n, err)
	}
}

func TestSpoolReadersFollow(t *testing.T) {
	s := newSpool(filepath.Join(t.TempDir(), "spool"), 1<<20)
	got := make(chan string)
	go func() {
		var out strings.Builder
		f := &frameWriter{w: frameSink{&out}}
		f.copy(FrameStdout, s, true)
		got <- out.String()
	}()
	for _, part := range []string{"one ", "two ", "three"} {
		if _, err := s.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	s.finish()
	if text := <-got; text != "one two three" {
		t.Errorf("the reader saw %q", text)
	}
	s.close()
}

// frameSink writes the data of frames.
type frameSink struct{ w io.Writer }

func (s frameSink) Write(p []byte) (int, error) {
	_, data, err := ReadFrame(bytes.NewReader(p), make([]byte, MaxFrame))
	if err == nil {
		_, err = s.w.Write(data)
	}
	return len(p), err
}

func TestFramesAreBounded(t *testing.T) {
	head := []byte{FrameStdout, 0xff, 0xff, 0xff, 0xff}
	if _, _, err := ReadFrame(bytes.NewReader(head), make([]byte, MaxFrame)); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("a frame of 4 GiB: %v, want a malformed message", err)
	}
}

// FuzzReadFrame feeds junk to the reader of attach frames: what it accepts must
// come out of WriteFrame again.
func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{FrameStdin, 0, 0, 0, 2, 'h', 'i'})
	f.Add([]byte{FrameEnd, 0, 0, 0, 0})
	f.Add([]byte{FrameOpen, 0, 1, 0, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		kind, data, err := ReadFrame(bytes.NewReader(in), make([]byte, MaxFrame))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := WriteFrame(&again, kind, data); err != nil || !bytes.HasPrefix(in, again.Bytes()) {
			t.Errorf("frame %d of %d bytes does not survive: %v", kind, len(data), err)
		}
	})
}

func TestBlobsOfASegment(t *testing.T) {
	a, b := workload.Ref{Digest: workload.DigestOf([]byte("a")), Size: 1}, workload.Ref{Digest: workload.DigestOf([]byte("b")), Size: 1}
	segment := workload.Segment{Results: []workload.TaskResult{
		{Stdout: workload.Stream{Blob: a}, Stderr: workload.Stream{Data: []byte("inline")}},
		{Outputs: []workload.Output{{Path: "x", Blob: b}, {Path: "y", Data: []byte("inline")}}},
	}}
	if refs := segment.Blobs(); len(refs) != 2 || refs[0] != a || refs[1] != b {
		t.Errorf("got %v, want the two blobs that are not inline", refs)
	}
}

func TestEnvironmentIsSortedAndOurs(t *testing.T) {
	got := environment(map[string]string{"B": "2", "A": "1", "PERRIN_OUT": "/etc"})
	if len(got) != 2 || got[0] != "A=1" || got[1] != "B=2" {
		t.Errorf("got %q: want A and B, and no PERRIN_ name of the owner's", got)
	}
}
