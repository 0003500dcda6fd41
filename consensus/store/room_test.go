package store

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFullDiskRefusesAppendsAndLosesNothing(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 30)
	opts := Default()
	opts.Free = func(string) (int64, error) { return free.Load(), nil }
	dir := t.TempDir()
	s, err := Open(dir, opts, nil)
	check(t, err)
	g := group(t, s, "cell")
	check(t, g.StoreLogs(entries(1, 10, 1)))

	free.Store(opts.Reserve)
	for range 3 {
		if err := g.StoreLogs(entries(11, 12, 1)); !errors.Is(err, ErrNoSpace) {
			t.Fatalf("append = %v, want ErrNoSpace", err)
		}
		wantSpan(t, g, 1, 10)
	}
	check(t, g.SetUint64([]byte("CurrentTerm"), 7)) // a vote still goes
	free.Store(opts.Reserve / 8)
	if err := g.SetUint64([]byte("CurrentTerm"), 8); !errors.Is(err, ErrNoSpace) {
		t.Errorf("term = %v, want ErrNoSpace", err)
	}
	if err := s.Cache("c").Put("k", nil); !errors.Is(err, ErrNoSpace) {
		t.Errorf("cache = %v, want ErrNoSpace", err)
	}
	check(t, g.DeleteRange(1, 4)) // makes room
	free.Store(0)
	if err := g.DeleteRange(5, 5); !errors.Is(err, ErrNoSpace) {
		t.Errorf("a deletion without a byte of room = %v, want ErrNoSpace", err)
	}
	wantSpan(t, g, 5, 10)

	free.Store(1 << 30)
	check(t, g.StoreLogs(entries(11, 12, 1)))
	check(t, s.Close())
	g = group(t, open(t, dir), "cell")
	wantSpan(t, g, 5, 12)
	if term, err := g.GetUint64([]byte("CurrentTerm")); term != 7 || err != nil {
		t.Errorf("term = %d, %v, want 7", term, err)
	}
	free.Store(0)
	if _, err := Open(t.TempDir(), opts, nil); !errors.Is(err, ErrNoSpace) {
		t.Errorf("open on a full disk = %v, want ErrNoSpace", err)
	}
}

// TestRealFullDisk fills a small file system of its own until appends are
// refused, makes room and goes on. Without the reserve this ends with SIGBUS.
func TestRealFullDisk(t *testing.T) {
	if dir := os.Getenv("PERRIN_TEST_SMALL_DISK"); dir != "" {
		if err := fillSmallDisk(t, dir); err != nil {
			t.Fatal(err)
		}
		fmt.Println("went on")
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRealFullDisk$")
	cmd.Env = append(os.Environ(), "PERRIN_TEST_SMALL_DISK="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "no mount") || err != nil && len(out) == 0 {
		t.Skipf("needs user and mount namespaces: %v %.200s", err, out)
	}
	if err != nil || !strings.Contains(string(out), "went on") {
		t.Errorf("%v\n%s", err, out)
	}
}

func fillSmallDisk(t *testing.T, dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=160m"); err != nil {
		fmt.Println("no mount:", err)
		return nil
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 40<<20), 0o600); err != nil {
		return err
	}
	s, err := Open(filepath.Join(dir, "data"), Default(), nil)
	if err != nil {
		return err
	}
	defer s.Close()
	g := group(t, s, "cell")
	acked, err := appendUntilFull(g)
	if !errors.Is(err, ErrNoSpace) {
		return fmt.Errorf("after %d entries: %w, want ErrNoSpace", acked, err)
	}
	if err := os.Remove(ballast); err != nil {
		return err
	}
	if err := g.StoreLogs(entries(acked+1, acked+10, 1)); err != nil {
		return fmt.Errorf("with room again: %w", err)
	}
	readAll(t, g, acked+10)
	return nil
}

func appendUntilFull(g *Group) (acked uint64, err error) {
	for {
		logs := entries(acked+1, acked+50, 1)
		for _, l := range logs {
			for k := range 4000 {
				l.Data = append(l.Data, byte(k*7)^byte(l.Index>>(k%8)))
			}
		}
		if err := g.StoreLogs(logs); err != nil {
			return acked, err
		}
		acked += 50
	}
}

// BenchmarkAppend measures single synced entries of 256 bytes from many groups.
func BenchmarkAppend(b *testing.B) {
	for _, appliers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("groups=%d", appliers), func(b *testing.B) {
			s := open(b, b.TempDir())
			benchmarkAppend(b, s, appliers, 1)
		})
	}
	b.Run("groups=1/batch=512", func(b *testing.B) { benchmarkAppend(b, open(b, b.TempDir()), 1, 512) })
}

func benchmarkAppend(b *testing.B, s *Store, appliers int, batch uint64) {
	todo := make(chan struct{}, appliers)
	done := make(chan error, appliers)
	for n := range appliers {
		g := group(b, s, fmt.Sprintf("g%d", n))
		go func() {
			var err error
			for range todo {
				_, last := g.span()
				logs := entries(last+1, last+batch, 1)
				for _, l := range logs {
					l.Data = make([]byte, 256)
				}
				err = errors.Join(err, g.StoreLogs(logs))
			}
			done <- err
		}()
	}
	b.ResetTimer()
	for range b.N {
		todo <- struct{}{}
	}
	close(todo)
	for range appliers {
		check(b, <-done)
	}
	b.ReportMetric(float64(b.N)*float64(batch)/b.Elapsed().Seconds(), "appends/s")
}
