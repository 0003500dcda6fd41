package wasm

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// tiny is (module (memory (export "memory") 1) (func (export "_start"))).
var tiny = []byte("\x00asm\x01\x00\x00\x00" + "\x01\x04\x01\x60\x00\x00" + "\x03\x02\x01\x00" + "\x05\x03\x01\x00\x01" +
	"\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x00" + "\x0a\x04\x01\x02\x00\x0b")

func tinyProgram(tb testing.TB) string {
	p := filepath.Join(tb.TempDir(), "tiny.wasm")
	if err := os.WriteFile(p, tiny, 0o644); err != nil {
		tb.Fatal(err)
	}
	return p
}

// BenchmarkAttempt is a no-op task in a running worker.
func BenchmarkAttempt(b *testing.B) {
	k := kit(b)
	k.Program = tinyProgram(b)
	s := k.Open(b, nil)
	benchRun(b, s.Session, s.Attempt())
}

// BenchmarkGoAttempt is a no-op task of a Go program.
func BenchmarkGoAttempt(b *testing.B) {
	s := kit(b).Open(b, nil)
	benchRun(b, s.Session, s.Attempt("noop"))
}

func benchRun(b *testing.B, s runner.Session, a runner.Attempt) {
	if o, err := s.Run(context.Background(), a); err != nil || o.Exit != workload.Exited {
		b.Fatal(o, err)
	}
	group := s.(*session).group
	before := group.Read().CPUMs
	for b.Loop() {
		if o, err := s.Run(context.Background(), a); err != nil || o.Code != 0 {
			b.Fatal(o, err)
		}
	}
	if before >= 0 { // there are cgroups
		b.ReportMetric(float64(group.Read().CPUMs-before)*1000/float64(b.N), "worker-cpu-µs/op")
	}
}

// BenchmarkWorkerStart is a fresh worker with cached code and its first task.
func BenchmarkWorkerStart(b *testing.B) {
	s := kit(b).Open(b, nil)
	a := s.Attempt("noop")
	for b.Loop() {
		w := s.Session.(*session)
		if o, err := w.Run(context.Background(), a); err != nil || o.Code != 0 {
			b.Fatal(o, err)
		}
		if _, err := w.worker.stop(); err != nil {
			b.Fatal(err)
		}
		w.worker = nil
	}
}
