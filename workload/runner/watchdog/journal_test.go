package watchdog

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestJournalIsReadAsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "attempts")
	if got, err := ReadJournal(path); err != nil || len(got) != 0 {
		t.Errorf("no journal: %v, %v", got, err)
	}
	want := []Record{
		{Op: RecordBegin, At: 1, Run: 1},
		{Op: RecordStart, At: 2, Run: 1, Key: "w/1", ID: 1},
		{Op: RecordEnd, At: 3, Run: 1, Key: "w/1", ID: 1, Why: ReasonLease},
		{Op: RecordEnd, At: 4, Run: 1, Key: "w/2", ID: 2, Alive: true},
	}
	j := openJournal(path, 1)
	for _, r := range want[:2] {
		j.write(r)
	}
	j = openJournal(path, 1) // a second one goes on
	for _, r := range want[2:] {
		j.write(r)
	}
	if got, err := ReadJournal(path); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := j.file.WriteString(`{"op":"sta`); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadJournal(path); err != nil || !slices.Equal(got, want) {
		t.Errorf("with a torn last line: %+v, %v", got, err)
	}
	if _, err := j.file.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadJournal(path); err == nil {
		t.Error("a broken line is read")
	}
}

func TestJournalIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "attempts")
	j := openJournal(path, 1)
	j.max = 1000
	for id := range uint64(200) {
		j.write(Record{Op: RecordStart, At: 1, Key: "w/1", ID: id})
		for _, name := range []string{path, path + oldSuffix} {
			if info, err := os.Stat(name); err == nil && info.Size() > j.max {
				t.Fatalf("%s has %d bytes, at most %d", name, info.Size(), j.max)
			}
		}
	}
	got, err := ReadJournal(path)
	if err != nil || len(got) < 5 || got[len(got)-1].ID != 199 {
		t.Fatalf("%d records, %v", len(got), err)
	}
	for i, r := range got {
		if r.ID != got[0].ID+uint64(i) {
			t.Fatalf("record %d is of %d, the first of %d", i, r.ID, got[0].ID)
		}
	}
}

func TestNoJournalIsNoError(t *testing.T) {
	for _, path := range []string{"", filepath.Join(t.TempDir(), "no", "folder")} {
		openJournal(path, 1).write(Record{Op: RecordBegin})
	}
}
