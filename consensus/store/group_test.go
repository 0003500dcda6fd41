package store

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/hashicorp/raft"
)

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Default(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func group(t testing.TB, s *Store, name string) *Group {
	t.Helper()
	g, err := s.Group(name)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// entries makes the entries from to to, with data that names index and term.
func entries(from, to, term uint64) []*raft.Log {
	var logs []*raft.Log
	for i := from; i <= to; i++ {
		logs = append(logs, &raft.Log{Index: i, Term: term, Data: fmt.Appendf(nil, "entry %d of term %d", i, term)})
	}
	return logs
}

func wantSpan(t testing.TB, g *Group, first, last uint64) {
	t.Helper()
	f, err1 := g.FirstIndex()
	l, err2 := g.LastIndex()
	if err := errors.Join(err1, err2); err != nil || f != first || l != last {
		t.Fatalf("log spans %d to %d (%v), want %d to %d", f, l, err, first, last)
	}
}

func TestManyGroupsAppendTogether(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	var wg sync.WaitGroup
	for n := range 8 {
		g := group(t, s, fmt.Sprintf("cell-%d", n))
		wg.Go(func() {
			for i := uint64(1); i <= 50; i++ {
				if err := g.StoreLogs(entries(i, i, uint64(n))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	for n := range 8 {
		g := group(t, s, fmt.Sprintf("cell-%d", n))
		wantSpan(t, g, 1, 50)
		var l raft.Log
		if err := g.GetLog(25, &l); err != nil || l.Term != uint64(n) || string(l.Data) != fmt.Sprintf("entry 25 of term %d", n) {
			t.Fatalf("group %d entry 25 = %+v, %v", n, l, err)
		}
	}
}
