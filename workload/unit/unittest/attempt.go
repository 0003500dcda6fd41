// Package unittest has an attempt to test programs against that speak the
// unit's own protocol.
package unittest

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"os"
	"sync"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/unit"
)

// Attempt is an attempt of a workload that does not exist: task 2 of 5, its
// second try, on the node "attic". It keeps what is published in memory.
type Attempt struct {
	unit.Board
	OutDir string // its output folder
	Fail   error  // what Publish returns, when set

	mu        sync.Mutex
	published map[string]string
}

var _ unit.Backend = (*Attempt)(nil)

// New returns an attempt with an empty output folder.
func New(t testing.TB) *Attempt {
	return &Attempt{OutDir: t.TempDir(), published: map[string]string{}}
}

// Serve serves a until the end of the test and returns the socket.
func (a *Attempt) Serve(t testing.TB) string {
	t.Helper()
	socket, stop, err := unit.ServeAttempt(t.TempDir(), a, 1<<20, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return socket
}

// Published returns what was published, by path.
func (a *Attempt) Published() map[string]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.published)
}

// Whoami implements unit.Backend.
func (a *Attempt) Whoami() unit.Whoami {
	return unit.Whoami{
		Workload: workload.ID{Cell: workload.CellID{1}, Random: [16]byte{2}}.String(), Name: "example", Task: 2, Count: 5, Attempt: 2,
		TaskName: "frames/002.png", Node: "attic", Class: string(workload.Core), CPUs: 3, Memory: 256 << 20, DeadlineMs: 1_900_000_000_000,
	}
}

// Inputs implements unit.Backend.
func (a *Attempt) Inputs() []workload.Input {
	return []workload.Input{
		{Path: "train.py", Kind: workload.File, Blob: workload.Ref{Digest: workload.DigestOf([]byte("a")), Size: 1}},
		{Path: "data/images", Kind: workload.Tree, Blob: workload.Ref{Digest: workload.DigestOf([]byte("b")), Size: 70_000}},
	}
}

// Publish implements unit.Backend.
func (a *Attempt) Publish(_ context.Context, name string, content io.Reader) (workload.Ref, error) {
	b, err := io.ReadAll(content)
	if err != nil {
		return workload.Ref{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.Fail != nil {
		return workload.Ref{}, a.Fail
	}
	a.published[name] = string(b)
	return workload.Ref{Digest: workload.DigestOf(b), Size: int64(len(b))}, nil
}

// PublishFile implements unit.Backend.
func (a *Attempt) PublishFile(ctx context.Context, name, from string) (workload.Ref, error) {
	root, err := os.OpenRoot(a.OutDir)
	if err != nil {
		return workload.Ref{}, err
	}
	defer root.Close()
	f, err := root.Open(from)
	if err != nil {
		return workload.Ref{}, err
	}
	defer f.Close()
	return a.Publish(ctx, name, f)
}

// Cost implements unit.Backend.
func (a *Attempt) Cost() unit.Cost {
	return unit.Cost{MicroCredits: 4200, Rate: 100, Seconds: 42}
}
