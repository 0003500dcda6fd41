package wasm

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/wasm/frame"
)

// FuzzWorkerSays lets a worker process say arbitrary bytes to the daemon: one
// whose guest has broken out of its engine may. The attempt ends with a reply or
// an error, and no more is taken for output than was said.
func FuzzWorkerSays(f *testing.F) {
	said := func(send func(w *frame.Writer) error) []byte {
		var out bytes.Buffer
		if err := send(frame.NewWriter(&out)); err != nil {
			f.Fatal(err)
		}
		return out.Bytes()
	}
	ready := said(func(w *frame.Writer) error { return w.Send(frame.Ready, 0, nil) })
	done := said(func(w *frame.Writer) error {
		return errors.Join(w.Send(frame.Stdout, 1, []byte("hi")), w.Send(frame.Stderr, 1, []byte("ho")), w.Send(frame.UnitAsk, 1, nil),
			w.SendJSON(frame.Done, 1, frame.Reply{Code: 3, Trap: "t", CPUUs: -1, Peak: 1 << 62}))
	})
	f.Add(append(ready, done...))
	f.Add(append(ready, said(func(w *frame.Writer) error { return w.Send(frame.Stdout, 2, nil) })...))
	f.Add(said(func(w *frame.Writer) error { return w.Send(frame.Failed, 0, []byte("no\xff")) }))
	f.Add([]byte{byte(frame.Stdout), 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, raw []byte) {
		w := &worker{in: frame.NewReader(bytes.NewReader(raw)), out: frame.NewWriter(io.Discard)}
		if w.ready() != nil {
			return
		}
		var stdout, stderr bytes.Buffer
		asked := 0
		_, err := w.attempt(1, &frame.Request{}, runner.Attempt{Stdout: &stdout, Stderr: &stderr}, func() string { asked++; return "s" })
		if stdout.Len()+stderr.Len()+asked > len(raw) {
			t.Errorf("%d bytes of output of %d that were said", stdout.Len()+stderr.Len(), len(raw))
		}
		if err != nil && !errors.Is(err, frame.ErrFrame) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%v, want ErrFrame", err)
		}
	})
}
