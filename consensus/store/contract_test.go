package store

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

// raftStore is what both the group and the library's own store implement.
type raftStore interface {
	raft.LogStore
	raft.StableStore
}

// TestContract runs what Raft relies on against the group and against the
// library's store in memory.
func TestContract(t *testing.T) {
	t.Run("badger", func(t *testing.T) {
		s := open(t, t.TempDir())
		n := 0
		contract(t, func() raftStore {
			n++
			return group(t, s, fmt.Sprintf("g%d", n))
		})
	})
	t.Run("reference", func(t *testing.T) {
		contract(t, func() raftStore { return raft.NewInmemStore() })
	})
}

func contract(t *testing.T, fresh func() raftStore) {
	t.Run("an empty log has no indexes", func(t *testing.T) {
		s := fresh()
		checkRange(t, s, 0, 0)
		if err := s.GetLog(1, &raft.Log{}); !errors.Is(err, raft.ErrLogNotFound) {
			t.Errorf("GetLog = %v, want ErrLogNotFound", err)
		}
	})
	t.Run("an entry comes back as it was", func(t *testing.T) {
		s := fresh()
		want := &raft.Log{
			Index: 7, Term: 3, Type: raft.LogConfiguration, Data: []byte("data"), Extensions: []byte("ext"),
			AppendedAt: time.Unix(1_700_000_000, 123456789),
		}
		check(t, s.StoreLog(want))
		var got raft.Log
		check(t, s.GetLog(7, &got))
		if !got.AppendedAt.Equal(want.AppendedAt) {
			t.Errorf("appended at %v, want %v", got.AppendedAt, want.AppendedAt)
		}
		got.AppendedAt = want.AppendedAt
		if !reflect.DeepEqual(&got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		checkRange(t, s, 7, 7)
	})
	t.Run("a prefix and a suffix are deleted", func(t *testing.T) {
		s := fresh()
		check(t, s.StoreLogs(entries(1, 100, 1)))
		check(t, s.DeleteRange(1, 40))
		checkRange(t, s, 41, 100)
		check(t, s.DeleteRange(91, 100))
		checkRange(t, s, 41, 90)
		for _, gone := range []uint64{40, 91} {
			if err := s.GetLog(gone, &raft.Log{}); !errors.Is(err, raft.ErrLogNotFound) {
				t.Errorf("GetLog(%d) = %v, want ErrLogNotFound", gone, err)
			}
		}
		check(t, s.StoreLogs(entries(91, 95, 2)))
		checkRange(t, s, 41, 95)
		check(t, s.DeleteRange(41, 95))
		checkRange(t, s, 0, 0)
	})
	t.Run("stable values", func(t *testing.T) {
		s := fresh()
		if v, err := s.GetUint64([]byte("term")); v != 0 || err != nil && err.Error() != "not found" {
			t.Errorf("missing number = %d, %v", v, err)
		}
		if v, err := s.Get([]byte("vote")); len(v) != 0 || err != nil && err.Error() != "not found" {
			t.Errorf("missing value = %q, %v", v, err)
		}
		check(t, s.SetUint64([]byte("term"), 1<<40))
		check(t, s.Set([]byte("vote"), []byte("a")))
		check(t, s.Set([]byte("vote"), []byte("b")))
		if v, err := s.GetUint64([]byte("term")); v != 1<<40 || err != nil {
			t.Errorf("number = %d, %v", v, err)
		}
		if v, err := s.Get([]byte("vote")); string(v) != "b" || err != nil {
			t.Errorf("value = %q, %v", v, err)
		}
	})
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func checkRange(t testing.TB, s raft.LogStore, first, last uint64) {
	t.Helper()
	f, err1 := s.FirstIndex()
	l, err2 := s.LastIndex()
	if f != first || l != last || err1 != nil || err2 != nil {
		t.Fatalf("the log spans %d to %d (%v, %v), want %d to %d", f, l, err1, err2, first, last)
	}
}

func TestHolesAreRefused(t *testing.T) {
	g := group(t, open(t, t.TempDir()), "cell")
	check(t, g.StoreLogs(entries(10, 20, 1)))
	for name, err := range map[string]error{
		"a gap":              g.StoreLogs(entries(22, 23, 1)),
		"before the start":   g.StoreLogs(entries(9, 9, 1)),
		"index zero":         g.StoreLogs(entries(0, 0, 1)),
		"a gap in the batch": g.StoreLogs(append(entries(21, 21, 1), entries(23, 23, 1)...)),
		"a hole":             g.DeleteRange(12, 13),
	} {
		if !errors.Is(err, ErrGap) {
			t.Errorf("%s: %v, want ErrGap", name, err)
		}
	}
	large := entries(21, 21, 1)
	large[0].Data = make([]byte, Default().MaxValue+1)
	if err := g.StoreLogs(large); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a large entry: %v, want ErrTooLarge", err)
	}
	check(t, g.DeleteRange(30, 40))
	wantSpan(t, g, 10, 20)
}

func TestNamesOfGroups(t *testing.T) {
	s := open(t, t.TempDir())
	for _, bad := range []string{"", "../x", "UPPER", "a/b", string(make([]byte, 65))} {
		if _, err := s.Group(bad); err == nil {
			t.Errorf("group %q was accepted", bad)
		}
	}
	if first, second := group(t, s, "cell"), group(t, s, "cell"); first != second {
		t.Error("one name, two groups")
	}
}

func TestDroppedGroupIsForgotten(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	g := group(t, s, "old")
	check(t, g.StoreLogs(entries(1, 5000, 1)))
	check(t, g.SetUint64([]byte("CurrentTerm"), 9))
	check(t, group(t, s, "other").StoreLogs(entries(1, 3, 1)))
	check(t, s.Drop("old"))
	check(t, s.Close())
	s = open(t, dir)
	g = group(t, s, "old")
	wantSpan(t, g, 0, 0)
	if term, err := g.GetUint64([]byte("CurrentTerm")); term != 0 || err != nil {
		t.Errorf("term = %d, %v, want none", term, err)
	}
	wantSpan(t, group(t, s, "other"), 1, 3)
}

// TestLogBehavesLikeAList compares a group with a list through random appends,
// replacements, deletions and loads from the database.
func TestLogBehavesLikeAList(t *testing.T) {
	s, n := open(t, t.TempDir()), 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		g := group(t, s, fmt.Sprintf("g%d", n))
		var list []*raft.Log
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				start := uint64(rapid.IntRange(1, 50).Draw(rt, "start"))
				if len(list) > 0 {
					start = list[0].Index + uint64(rapid.IntRange(0, len(list)).Draw(rt, "replace from"))
					list = list[:start-list[0].Index]
				}
				more := entries(start, start+uint64(rapid.IntRange(0, 20).Draw(rt, "count")), rapid.Uint64Range(1, 9).Draw(rt, "term"))
				check(t, g.StoreLogs(more))
				list = append(slices.Clone(list), more...)
			},
			"delete": func(rt *rapid.T) {
				if len(list) == 0 {
					return
				}
				n := rapid.IntRange(1, len(list)).Draw(rt, "count")
				if rapid.Bool().Draw(rt, "prefix") {
					check(t, g.DeleteRange(0, list[n-1].Index))
					list = list[n:]
				} else {
					check(t, g.DeleteRange(list[len(list)-n].Index, 1<<60))
					list = list[:len(list)-n]
				}
			},
			"load again": func(*rapid.T) {
				delete(s.groups, g.name)
				g = group(t, s, g.name)
			},
			"": func(*rapid.T) { compare(t, g, list) },
		})
		check(t, s.Drop(g.name))
	})
}

func compare(t testing.TB, g *Group, list []*raft.Log) {
	t.Helper()
	if len(list) == 0 {
		wantSpan(t, g, 0, 0)
		return
	}
	wantSpan(t, g, list[0].Index, list[len(list)-1].Index)
	for _, want := range list {
		var got raft.Log
		if err := g.GetLog(want.Index, &got); err != nil || !reflect.DeepEqual(&got, want) {
			t.Fatalf("entry %d = %+v, %v, want %+v", want.Index, got, err, want)
		}
	}
}

func FuzzEntry(f *testing.F) {
	f.Add(encodeEntry(entries(3, 3, 9)[0]))
	f.Add([]byte{entryVersion, 0, 1, 2, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		var l, again raft.Log
		if err := decodeEntry(3, b, &l); err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v is no ErrCorrupt", err)
			}
			return
		}
		if err := decodeEntry(3, encodeEntry(&l), &again); err != nil || !reflect.DeepEqual(l, again) {
			t.Fatalf("%+v became %+v, %v", l, again, err)
		}
	})
}
