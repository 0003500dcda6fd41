package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// origin is a source that has everything in a store, changed by hooks.
type origin struct {
	name   string
	store  *Store
	chunks atomic.Int32 // asked for
	hook   func(ctx context.Context, i int, b []byte) ([]byte, error)
}

func (o *origin) Name() string { return o.name }

func (o *origin) Manifest(_ context.Context, ref workload.Ref) ([]byte, error) {
	return o.store.Manifest(ref)
}

func (o *origin) Chunk(ctx context.Context, ref workload.Ref, i int, _ []byte) ([]byte, error) {
	o.chunks.Add(1)
	b, err := o.store.Chunk(ref, i)
	if err == nil && o.hook != nil {
		return o.hook(ctx, i, b)
	}
	return b, err
}

// pair returns a store that has b and an empty one.
func pair(t testing.TB, b []byte) (from, to *Store, ref workload.Ref) {
	t.Helper()
	from, to = open(t, t.TempDir(), roomy), open(t, t.TempDir(), roomy)
	return from, to, put(t, from, b)
}

func TestFetchBringsEverySize(t *testing.T) {
	for i, n := range sizes {
		b := content(i, n)
		from, to, ref := pair(t, b)
		if err := to.Fetch(context.Background(), ref, []Source{&origin{name: "a", store: from}}); err != nil {
			t.Fatalf("size %d: %v", n, err)
		}
		if got, err := to.ReadAll(ref, ref.Size); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("size %d: read %d bytes, %v", n, len(got), err)
		}
		if got, want := len(files(t, to)), len(files(t, from)); got != want || to.Usage().Bytes != from.Usage().Bytes || to.Usage().Reserved != 0 {
			t.Errorf("size %d: %d files, want %d; %+v", n, got, want, to.Usage())
		}
	}
}

func TestEverySourceIsUsed(t *testing.T) {
	from, to, ref := pair(t, content(1, 12*workload.ChunkSize))
	both := make(chan struct{})
	var first sync.Map
	meet := func(name string) func(context.Context, int, []byte) ([]byte, error) {
		return func(_ context.Context, _ int, b []byte) ([]byte, error) {
			if _, seen := first.LoadOrStore(name, true); !seen {
				n := 0
				first.Range(func(any, any) bool { n++; return true })
				if n == 2 {
					close(both)
				}
			}
			<-both // neither goes on before both were asked
			return b, nil
		}
	}
	a, b := &origin{name: "a", store: from, hook: meet("a")}, &origin{name: "b", store: from, hook: meet("b")}
	if err := to.Fetch(context.Background(), ref, []Source{a, b}); err != nil {
		t.Fatal(err)
	}
	if a.chunks.Load() == 0 || b.chunks.Load() == 0 || a.chunks.Load()+b.chunks.Load() != 12 {
		t.Errorf("a gave %d chunks, b %d, want 12 together", a.chunks.Load(), b.chunks.Load())
	}
}

func TestCorruptAndTruncatedChunksAreFetchedElsewhere(t *testing.T) {
	spoil := map[string]func(context.Context, int, []byte) ([]byte, error){
		"corrupt":   func(_ context.Context, _ int, b []byte) ([]byte, error) { b[len(b)/2] ^= 1; return b, nil },
		"truncated": func(_ context.Context, _ int, b []byte) ([]byte, error) { return b[:len(b)-1], nil },
		"too long":  func(_ context.Context, _ int, b []byte) ([]byte, error) { return append(b, 0), nil },
		"empty":     func(context.Context, int, []byte) ([]byte, error) { return nil, nil },
	}
	for name, hook := range spoil {
		for _, size := range []int{1000, 5 * workload.ChunkSize} {
			b := content(1, size)
			from, to, ref := pair(t, b)
			bad, good := &origin{name: "bad", store: from, hook: hook}, &origin{name: "good", store: from}
			if err := to.Fetch(context.Background(), ref, []Source{bad, good}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got, err := to.ReadAll(ref, ref.Size); err != nil || !bytes.Equal(got, b) {
				t.Fatalf("%s: %v", name, err)
			}
			if to.Usage().Corrupt == 0 || to.blamed("bad") == 0 || to.blamed("good") != 0 {
				t.Errorf("%s: corrupt %d, blamed bad %d, good %d", name, to.Usage().Corrupt, to.blamed("bad"), to.blamed("good"))
			}
			next := put(t, from, content(2, 10))
			asked := bad.chunks.Load()
			if err := to.Fetch(context.Background(), next, []Source{bad, good}); err != nil {
				t.Fatal(err)
			}
			if bad.chunks.Load() != asked {
				t.Errorf("%s: the demoted source was asked first again", name)
			}
		}
	}
}

func TestCorruptManifestIsRefused(t *testing.T) {
	from, to, ref := pair(t, content(1, 3*workload.ChunkSize))
	liar := &lyingManifest{origin{name: "liar", store: from}}
	if err := to.Fetch(context.Background(), ref, []Source{liar, &origin{name: "good", store: from}}); err != nil {
		t.Fatal(err)
	}
	if to.blamed("liar") == 0 {
		t.Error("the liar is not blamed")
	}
}

type lyingManifest struct{ origin }

func (l *lyingManifest) Manifest(_ context.Context, ref workload.Ref) ([]byte, error) {
	b, err := l.store.Manifest(ref)
	if err == nil {
		b[len(b)-1] ^= 1
	}
	return b, err
}

func TestNoSourceLeftSaysWhatEachAnswered(t *testing.T) {
	from, to, ref := pair(t, content(1, 3*workload.ChunkSize))
	bad := &origin{name: "bad", store: from, hook: func(_ context.Context, _ int, b []byte) ([]byte, error) { b[0] ^= 1; return b, nil }}
	empty := &origin{name: "empty", store: to}
	err := to.Fetch(context.Background(), ref, []Source{bad, empty})
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), `"bad"`) || !strings.Contains(err.Error(), `"empty"`) {
		t.Errorf("got %v", err)
	}
	if err := to.Fetch(context.Background(), ref, nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without sources: %v", err)
	}
	if to.Has(ref) {
		t.Error("Has says yes")
	}
}

func TestFetchResumesAfterARestart(t *testing.T) {
	b := content(1, 8*workload.ChunkSize)
	from, to, ref := pair(t, b)
	gone := errors.New("gone")
	half := &origin{name: "half", store: from, hook: func(_ context.Context, i int, b []byte) ([]byte, error) {
		if i >= 4 {
			return nil, fmt.Errorf("chunk %d: %w", i, ErrNotFound)
		}
		return b, nil
	}}
	if err := to.Fetch(context.Background(), ref, []Source{half}); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("got %v, want %v", err, gone)
	}
	if u := to.Usage(); u.Partial != 1 || u.Reserved != 0 || u.Bytes != block+4*workload.ChunkSize {
		t.Errorf("usage %+v", u)
	}
	for i, want := range []bool{true, true, true, true, false, false, false, false} {
		if _, err := to.Chunk(ref, i); want != (err == nil) || !want && !errors.Is(err, ErrNotFound) {
			t.Errorf("chunk %d of the partial blob: %v", i, err)
		}
	}
	dir := to.dir
	to.Close()
	to = open(t, dir, roomy)
	damage(t, to, dirPartial, ref, 2*workload.ChunkSize+5)
	rest := &origin{name: "rest", store: from}
	if err := to.Fetch(context.Background(), ref, []Source{rest}); err != nil {
		t.Fatal(err)
	}
	if n := rest.chunks.Load(); n != 5 {
		t.Errorf("asked for %d chunks, want the 4 missing and the damaged one", n)
	}
	if got, err := to.ReadAll(ref, ref.Size); err != nil || !bytes.Equal(got, b) {
		t.Errorf("read %v", err)
	}
	if u := to.Usage(); u.Partial != 0 || u.Bytes != charge(ref) || u.Reserved != 0 {
		t.Errorf("usage %+v, want %d bytes", u, charge(ref))
	}
}

func TestDamagedLargeBlobIsRepairedByOneChunk(t *testing.T) {
	from, to, ref := pair(t, content(1, 8*workload.ChunkSize))
	if err := to.Fetch(context.Background(), ref, []Source{&origin{name: "a", store: from}}); err != nil {
		t.Fatal(err)
	}
	damage(t, to, dirLarge, ref, 3*workload.ChunkSize)
	if _, err := to.ReadAll(ref, ref.Size); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("got %v", err)
	}
	again := &origin{name: "a", store: from}
	if err := to.Fetch(context.Background(), ref, []Source{again}); err != nil {
		t.Fatal(err)
	}
	if n := again.chunks.Load(); n != 1 || !to.Has(ref) {
		t.Errorf("asked for %d chunks, here %t", n, to.Has(ref))
	}
}

// TestReceiverFindsWhatTheServerDoesNot: a disk that changes content under a file
// that nobody wrote to is found by who receives it.
func TestReceiverFindsWhatTheServerDoesNot(t *testing.T) {
	from, to, ref := pair(t, content(1, 3*workload.ChunkSize))
	name := from.fileName(dirLarge, ref)
	before, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	damage(t, from, dirLarge, ref, workload.ChunkSize+5)
	if err := os.Chtimes(name, time.Time{}, before.ModTime()); err != nil {
		t.Fatal(err)
	}
	if _, err := from.Chunk(ref, 1); err != nil {
		t.Errorf("the server hashes again what it has verified: %v", err)
	}
	if err := to.Fetch(context.Background(), ref, []Source{&origin{name: "a", store: from}}); err == nil || to.Has(ref) {
		t.Errorf("damaged content was taken: %v", err)
	}
	if _, err := from.ReadAll(ref, ref.Size); !errors.Is(err, ErrCorrupt) {
		t.Errorf("read here: %v", err)
	}
}

func TestConcurrentFetchesShareOne(t *testing.T) {
	from, to, ref := pair(t, content(1, 4*workload.ChunkSize))
	started, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	src := &origin{name: "a", store: from, hook: func(_ context.Context, _ int, b []byte) ([]byte, error) {
		once.Do(func() { close(started) })
		<-release
		return b, nil
	}}
	impatient, cancel := context.WithCancel(context.Background())
	errs := make(chan error, 3)
	go func() { errs <- to.Fetch(impatient, ref, []Source{src}) }()
	<-started
	for range 2 {
		go func() { errs <- to.Fetch(context.Background(), ref, []Source{src}) }()
	}
	for waiters := 0; waiters < 3; runtime.Gosched() {
		to.mu.Lock()
		waiters = to.fetches[ref].waiters
		to.mu.Unlock()
	}
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("the one who left: %v", err)
	}
	close(release)
	for range 2 {
		if err := <-errs; err != nil {
			t.Errorf("the ones who stayed: %v", err)
		}
	}
	if n := src.chunks.Load(); n != 4 {
		t.Errorf("asked for %d chunks, want 4", n)
	}
}

func TestFetchGivenUpStopsAndCanBeStartedAgain(t *testing.T) {
	from, to, ref := pair(t, content(1, 4*workload.ChunkSize))
	started := make(chan struct{}, 64)
	stuck := &origin{name: "stuck", store: from, hook: func(ctx context.Context, _ int, _ []byte) ([]byte, error) {
		started <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	ctx, cancel := context.WithCancel(context.Background())
	errs := make(chan error, 1)
	go func() { errs <- to.Fetch(ctx, ref, []Source{stuck}) }()
	<-started
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if err := to.Fetch(context.Background(), ref, []Source{&origin{name: "a", store: from}}); err != nil {
		t.Fatal(err)
	}
}

func TestCloseEndsAFetch(t *testing.T) {
	from, to, ref := pair(t, content(1, 4*workload.ChunkSize))
	started := make(chan struct{}, 64)
	stuck := &origin{name: "stuck", store: from, hook: func(ctx context.Context, _ int, _ []byte) ([]byte, error) {
		started <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	errs := make(chan error, 1)
	go func() { errs <- to.Fetch(context.Background(), ref, []Source{stuck}) }()
	<-started
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-errs; !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	if _, err := to.PutBytes(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("put after Close: %v", err)
	}
}

// virtual is a source without files, for tests in virtual time.
type virtual struct {
	name  string
	b     []byte
	chunk func(ctx context.Context, i int) error
	asked atomic.Int32
}

func (v *virtual) Name() string { return v.name }

func (v *virtual) Manifest(context.Context, workload.Ref) ([]byte, error) {
	m := Manifest{Size: int64(len(v.b))}
	for b := v.b; len(b) > 0; {
		n := min(len(b), workload.ChunkSize)
		m.Chunks, b = append(m.Chunks, workload.DigestOf(b[:n])), b[n:]
	}
	return m.Encode(), nil
}

func (v *virtual) Chunk(ctx context.Context, _ workload.Ref, i int, _ []byte) ([]byte, error) {
	v.asked.Add(1)
	if v.chunk != nil {
		if err := v.chunk(ctx, i); err != nil {
			return nil, err
		}
	}
	return v.b[i*workload.ChunkSize : min(len(v.b), (i+1)*workload.ChunkSize)], nil
}

func TestSlowSourceLosesItsChunks(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, dir, roomy)
		defer s.Close()
		b := content(1, 6*workload.ChunkSize)
		slow := &virtual{name: "slow", b: b, chunk: func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }}
		quick := &virtual{name: "quick", b: b}
		start := time.Now()
		if err := s.Fetch(context.Background(), RefOf(b), []Source{slow, quick}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 2*hedgeAfter || slow.asked.Load() == 0 {
			t.Errorf("took %v with %d chunks asked of the slow source", took, slow.asked.Load())
		}
	})
}

func TestFailingSourceIsRetriedThenDropped(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, dir, roomy)
		defer s.Close()
		b := content(1, 100)
		flaky := &virtual{name: "flaky", b: b}
		flaky.chunk = func(context.Context, int) error {
			if flaky.asked.Load() < maxFailures {
				return errors.New("connection reset")
			}
			return nil
		}
		if err := s.Fetch(context.Background(), RefOf(b), []Source{flaky}); err != nil {
			t.Fatal(err)
		}
		other := content(2, 100)
		dead := &virtual{name: "dead", b: other, chunk: func(context.Context, int) error { return errors.New("connection refused") }}
		err := s.Fetch(context.Background(), RefOf(other), []Source{dead})
		if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "connection refused") || dead.asked.Load() != maxFailures {
			t.Errorf("after %d requests: %v", dead.asked.Load(), err)
		}
	})
}

func TestFetchWithoutRoomAsksForNoContent(t *testing.T) {
	from := open(t, t.TempDir(), roomy)
	ref := put(t, from, content(1, 4*workload.ChunkSize))
	to := open(t, t.TempDir(), 2<<20)
	src := &origin{name: "a", store: from}
	if err := to.Fetch(context.Background(), ref, []Source{src}); !errors.Is(err, ErrFull) || src.chunks.Load() != 0 {
		t.Errorf("after %d chunks: %v", src.chunks.Load(), err)
	}
	if got := files(t, to); len(got) != 0 || to.Usage().Reserved != 0 {
		t.Errorf("left %q, %+v", got, to.Usage())
	}
}

func TestAbsurdRefsAreRefused(t *testing.T) {
	s := open(t, t.TempDir(), roomy)
	d := workload.DigestOf(nil)
	for _, ref := range []workload.Ref{{}, {Digest: d, Size: -1}, {Digest: d, Size: MaxSize + 1}} {
		if err := s.Fetch(context.Background(), ref, nil); !errors.Is(err, ErrRef) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("fetch %v: %v", ref, err)
		}
		if _, err := s.Chunk(ref, 0); err == nil {
			t.Errorf("chunk of %v was given", ref)
		}
	}
	ref := put(t, s, []byte("x"))
	for _, i := range []int{-1, 1} {
		if _, err := s.Chunk(ref, i); !errors.Is(err, ErrNotFound) {
			t.Errorf("chunk %d: %v", i, err)
		}
	}
}

func TestLogsNameTheCorruptSourceQuoted(t *testing.T) {
	var log bytes.Buffer
	from := open(t, t.TempDir(), roomy)
	ref := put(t, from, []byte("hello"))
	to, err := Open(t.TempDir(), roomy, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	evil := &origin{name: "evil\nlevel=INFO", store: from, hook: func(context.Context, int, []byte) ([]byte, error) { return []byte("hellO"), nil }}
	if err := to.Fetch(context.Background(), ref, []Source{evil}); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "corrupt") {
		t.Errorf("log:\n%s", got)
	}
	if _, err := os.Stat(to.fileName(dirSmall, ref)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file for it: %v", err)
	}
}
