package node

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

func testLog(t *testing.T) *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

// hostSpec is a workload of one task that runs a program of the host.
func hostSpec(program string, args ...string) workload.Spec {
	spec := workload.DefaultSpec()
	spec.Program = workload.Program{Kind: workload.Process, Name: program, Host: program}
	spec.Args = args
	spec.Resources.Memory = 64 << 20
	return spec
}

// run submits a spec and returns its one task's output and the ended workload.
func run(t *testing.T, b api.Backend, spec workload.Spec) (string, *api.Workload) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	sub, err := b.Submit(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := b.Attach(ctx, sub.ID, api.AttachOptions{Follow: true, Stdout: &out, Stderr: &out}); err != nil {
		t.Fatal(err)
	}
	for since := uint64(0); ; {
		w, err := b.Wait(ctx, sub.ID, since, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if w.Phase.Ended() {
			return out.String(), w
		}
		since = w.Version
	}
}

func embedded(t *testing.T) *Node {
	t.Helper()
	n, stop, err := Embedded(t.Context(), "test", testLog(t), workload.Process, workload.Wasm)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return n
}

func TestOneNodeRunsAProgram(t *testing.T) {
	b := embedded(t).Backend()
	out, w := run(t, b, hostSpec("echo", "hi"))
	if out != "hi\n" || w.Phase != workload.Succeeded || w.ExitCode == nil || *w.ExitCode != 0 {
		t.Errorf("got %q, phase %s, exit %v", out, w.Phase, w.ExitCode)
	}
	if w.Cost <= 0 || len(w.Placed) != 1 {
		t.Errorf("cost %d, placed %+v: want one node that was paid", w.Cost, w.Placed)
	}
}

func TestExitCodeIsTheProgramsOwn(t *testing.T) {
	b := embedded(t).Backend()
	_, w := run(t, b, hostSpec("sh", "-c", "echo no >&2; exit 7"))
	if w.Phase != workload.Failed || w.ExitCode == nil || *w.ExitCode != 7 {
		t.Errorf("phase %s, exit %v, want failed with 7", w.Phase, w.ExitCode)
	}
}

func TestAnOutputNameThatCannotTravelFailsTheTask(t *testing.T) {
	b := embedded(t).Backend()
	_, w := run(t, b, hostSpec("sh", "-c", `cd "$PERRIN_OUT" && printf x > "$(printf 'a\377b')"`))
	if w.Phase != workload.Failed || w.ExitCode == nil || *w.ExitCode != 125 || w.ExitDetail != string(workload.BadOutput) {
		t.Errorf("phase %s, exit %v %q, want failed with 125 for a bad output", w.Phase, w.ExitCode, w.ExitDetail)
	}
}
