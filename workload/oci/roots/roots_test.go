package roots

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

var quiet = slog.New(slog.DiscardHandler)

func open(t *testing.T, dir string, limit int64) *Cache {
	t.Helper()
	c, err := Open(dir, limit, quiet)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	clock := time.Unix(1e9, 0)
	c.now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		clock = clock.Add(time.Second)
		return clock
	}
	return c
}

func key(name string) digest.Digest { return digest.FromString(name) }

// holding fills a root with one file that says who it is.
func holding(name string, bytes int64) func(*os.Root) (int64, error) {
	return func(dir *os.Root) (int64, error) { return bytes, dir.WriteFile("who", []byte(name), 0o644) }
}

func use(t *testing.T, c *Cache, name string, bytes int64) (path string, release func()) {
	t.Helper()
	path, release, err := c.Get(context.Background(), key(name), holding(name, bytes))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(path, "who")); err != nil || string(b) != name {
		t.Fatalf("%s holds %q, %v", name, b, err)
	}
	return path, release
}

func never(*os.Root) (int64, error) { return 0, errors.New("made again") }

func TestRootsAreMadeOnceAndKept(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, 100)
	_, release := use(t, c, "a", 10)
	if _, again, err := c.Get(context.Background(), key("a"), never); err != nil {
		t.Fatal(err)
	} else {
		again()
	}
	release()
	release() // once is enough
	c = open(t, dir, 100)
	if u := c.Usage(); u != (Usage{Roots: 1, Bytes: 10}) {
		t.Errorf("after a restart %+v", u)
	}
	if _, _, err := c.Get(context.Background(), key("a"), never); err != nil {
		t.Error(err)
	}
}

func TestEviction(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, 100)
	a, releaseA := use(t, c, "a", 60)
	b, releaseB := use(t, c, "b", 30)
	releaseB()
	cPath, releaseC := use(t, c, "c", 50)
	releaseC() // 140 in all: b is the oldest that nobody uses
	if _, err := os.Stat(b); err == nil {
		t.Error("b was kept")
	}
	if _, err := os.Stat(cPath); err == nil {
		t.Error("c was kept beside a, which is in use: 110 of 100 bytes")
	}
	if _, err := os.Stat(a); err != nil {
		t.Error("a went while it was used")
	}
	releaseA()
	if u := c.Usage(); u != (Usage{Roots: 1, Bytes: 60}) {
		t.Errorf("kept %+v", u)
	}
	_, release := use(t, c, "b", 30) // and can be made again
	release()
	// A lower limit at the next start.
	c = open(t, dir, 40)
	if u := c.Usage(); u.Bytes > 40 || u.Roots != 1 {
		t.Errorf("with a limit of 40: %+v", u)
	}
}

func TestWhatIsNotWholeGoes(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, 100)
	kept, release := use(t, c, "kept", 1)
	release()
	gone := []string{"tmp-1-1", key("no note").Encoded(), key("no root").Encoded() + ".json", key("bad").Encoded(), "junk"}
	for _, name := range gone {
		p := filepath.Join(dir, name)
		if err := os.Mkdir(p, 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".json") {
			if err := errors.Join(os.Remove(p), os.WriteFile(p, []byte(`{}`), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(dir, key("bad").Encoded()+".json"), []byte(`{"bytes":1,"boot":"another"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c = open(t, dir, 100)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 || c.Usage().Roots != 1 {
		t.Errorf("left %v, %v, %+v", entries, err, c.Usage())
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
}

func TestFailuresAreNotKept(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, 100)
	no := errors.New("no")
	_, _, err := c.Get(context.Background(), key("a"), func(at *os.Root) (int64, error) {
		return 0, errors.Join(no, at.WriteFile("half", nil, 0o644))
	})
	if entries, _ := os.ReadDir(dir); !errors.Is(err, no) || len(entries) != 0 {
		t.Errorf("%v, left %v", err, entries)
	}
	_, release := use(t, c, "a", 1)
	release()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Get(context.Background(), key("a"), never); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestAtOnce: callers at the same time share one making, and one goes on when
// the maker is cancelled.
func TestAtOnce(t *testing.T) {
	c := open(t, t.TempDir(), 100)
	ctx, cancel := context.WithCancel(context.Background())
	started := make(chan struct{})
	first := make(chan error, 1)
	go func() {
		_, _, err := c.Get(ctx, key("a"), func(*os.Root) (int64, error) {
			close(started)
			<-ctx.Done()
			return 0, ctx.Err()
		})
		first <- err
	}()
	<-started
	var made sync.Map
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, release, err := c.Get(context.Background(), key("a"), func(dir *os.Root) (int64, error) {
				if _, twice := made.LoadOrStore("a", true); twice {
					return 0, errors.New("made twice")
				}
				return 5, dir.WriteFile("who", nil, 0o644)
			})
			if err != nil {
				t.Error(err)
				return
			}
			release()
		})
	}
	impatient, stop := context.WithCancel(context.Background())
	stop()
	if _, _, err := c.Get(impatient, key("a"), never); !errors.Is(err, context.Canceled) && err != nil {
		t.Errorf("cancelled while it waits: %v", err)
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled one: %v", err)
	}
	wg.Wait()
	if u := c.Usage(); u != (Usage{Roots: 1, Bytes: 5}) {
		t.Errorf("%+v", u)
	}
}

func FuzzNote(f *testing.F) {
	f.Add([]byte(`{"bytes":1,"boot":"x"}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, note []byte) {
		dir := t.TempDir()
		p := filepath.Join(dir, key("a").Encoded())
		if err := errors.Join(os.Mkdir(p, 0o755), os.WriteFile(p+".json", note, 0o600)); err != nil {
			t.Fatal(err)
		}
		c, err := Open(dir, 100, quiet)
		if err != nil {
			t.Fatal(err)
		}
		if u := c.Usage(); u.Bytes < 0 || u.Bytes > 100 {
			t.Errorf("%+v", u)
		}
	})
}
