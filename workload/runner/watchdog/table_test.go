package watchdog

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestTable(t *testing.T) {
	tab := NewTable()
	if tab.Add("a", 1, 0) {
		t.Error("added without a lease")
	}
	tab.Grant("a", 100)
	tab.Grant("b", 50)
	if !tab.Add("a", 1, 10) || !tab.Add("a", 2, 99) || tab.Add("a", 3, 100) {
		t.Error("a sandbox may be added before the deadline and not at it")
	}
	if next, ok := tab.Next(); next != 50 || !ok {
		t.Errorf("next is %d", next)
	}
	tab.Grant("a", 80) // never back
	tab.Drop("a", 1)
	if due := tab.Due(99); len(due) != 1 || due[0].Key != "b" || len(due[0].IDs) != 0 {
		t.Errorf("due at 99: %+v", due)
	}
	if due := tab.Due(100); len(due) != 1 || !slices.Equal(due[0].IDs, []uint64{2}) {
		t.Errorf("due at 100: %+v", due)
	}
	if _, ok := tab.Next(); ok {
		t.Error("a deadline is left")
	}
	if ids := tab.Forget("a"); ids != nil {
		t.Errorf("forgot %v", ids)
	}
}

// Whatever is granted, added, dropped and forgotten, no sandbox is in the table
// at or after its slot's last deadline, and each leaves exactly once.
func TestTableProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tab := NewTable()
		key := rapid.SampledFrom([]string{"a", "b", "c"})
		live, left := map[uint64]string{}, map[uint64]int{}
		var now Instant
		var id uint64
		remove := func(ids []uint64) {
			for _, i := range ids {
				left[i]++
				delete(live, i)
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += Instant(rapid.IntRange(0, 5).Draw(t, "pass"))
			k := key.Draw(t, "key")
			switch rapid.IntRange(0, 4).Draw(t, "op") {
			case 0:
				tab.Grant(k, now+Instant(rapid.IntRange(-3, 20).Draw(t, "ttl")))
			case 1:
				if id++; tab.Add(k, id, now) {
					live[id] = k
				}
			case 2:
				tab.Drop(live[id], id)
				delete(live, id)
			case 3:
				remove(tab.Forget(k))
			}
			for _, e := range tab.Due(now) {
				remove(e.IDs)
			}
			if next, ok := tab.Next(); ok && next <= now {
				t.Fatalf("deadline %d is not due at %d", next, now)
			}
		}
		for _, e := range tab.Due(1 << 40) {
			remove(e.IDs)
		}
		if len(live) != 0 {
			t.Fatalf("lost track of %v", live)
		}
		for i, n := range left {
			if n != 1 {
				t.Fatalf("sandbox %d left %d times", i, n)
			}
		}
	})
}
