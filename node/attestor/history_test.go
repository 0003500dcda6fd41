package attestor

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/perrin-mesh/perrin/mesh/attest/collect"
	"github.com/perrin-mesh/perrin/workload"
)

// TestHistoryOutlivesARestart holds that whom a node proved something to is known after it
// starts again, to the last KeepTold times; that what it asked of itself is not kept; and
// that a file which does not read costs the history alone.
func TestHistoryOutlivesARestart(t *testing.T) {
	cfg := config(2, collect.Of(), "")
	cfg.History = filepath.Join(t.TempDir(), "proved.json")
	job := workload.ID{Cell: workload.CellID{1}, Random: [16]byte{2}}
	a := New(cfg)
	a.note(workload.PeerID{3}, workload.LevelTPM, job)
	a.note(cfg.Self, workload.LevelTPM, workload.ID{})
	a.note(workload.PeerID{4}, workload.LevelSNP, workload.ID{})
	told := New(cfg).Told()
	if len(told) != 2 || told[0].To != (workload.PeerID{4}) || told[0].Kind != workload.LevelSNP || !told[0].Job.IsZero() ||
		told[1].Job != job || told[1].At.IsZero() {
		t.Errorf("after a restart it told %+v", told)
	}
	for i := range 3 * KeepTold {
		a.note(workload.PeerID{5, byte(i)}, workload.LevelTPM, workload.ID{})
	}
	if told = New(cfg).Told(); len(told) != KeepTold || told[0].To != (workload.PeerID{5, 3*KeepTold - 1}) {
		t.Errorf("%d times are kept, the last to %s", len(told), told[0].To)
	}
	if err := os.WriteFile(cfg.History, []byte("[{"), 0o600); err != nil {
		t.Fatal(err)
	}
	a = New(cfg)
	if len(a.Told()) != 0 {
		t.Errorf("a file that does not read holds %+v", a.Told())
	}
	a.note(workload.PeerID{3}, workload.LevelTPM, job)
	if told = New(cfg).Told(); len(told) != 1 {
		t.Errorf("written anew it holds %+v", told)
	}
}

// FuzzHistory: what is read is bounded, says who and what, and is written as it was read.
func FuzzHistory(f *testing.F) {
	f.Add([]byte("[]"))
	f.Add([]byte(`[{"to":"x","kind":"tpm"}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := parseHistory(text)
		if err != nil {
			return
		}
		if len(list) > KeepTold || slices.ContainsFunc(list, func(t Told) bool { return t.To.IsZero() || t.Kind == workload.LevelNone }) {
			t.Errorf("%+v", list)
		}
		first, err := json.Marshal(list)
		if err != nil {
			t.Skip(err) // a year that RFC 3339 has not
		}
		if list, err = parseHistory(first); err != nil {
			t.Fatalf("what was written does not read: %v", err)
		}
		if again, _ := json.Marshal(list); !bytes.Equal(first, again) {
			t.Errorf("%s is written as %s", first, again)
		}
	})
}
