package study

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func folder(t *testing.T, text string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "out")
	if err := Open(dir); err != nil {
		t.Fatal(err)
	}
	o, err := Run(context.Background(), parse(t, text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Write(dir, o.Manifest("v1", []byte(text), time.Now()), []byte(text)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestCompare(t *testing.T) {
	ours := folder(t, text)
	rows, err := Compare(ours, folder(t, text+"policy: {name: random-k, k: 2}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.Name == "workloads" && (r.Difference.Mean != 0 || r.Differs) {
			t.Errorf("other work came: %+v", r)
		}
		if r.Name == "placement_p50" && (r.Difference.N != 4 || r.P == nil || r.Difference.Mean != *r.Second-*r.First && r.Difference.Mean == 0) {
			t.Errorf("got %+v", r)
		}
	}
	same, err := Compare(ours, ours)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range same {
		if r.Differs {
			t.Errorf("a folder differs from itself: %+v", r)
		}
	}
	for change, want := range map[string]string{
		strings.Replace(text, "30/s", "31/s", 1):       "workloads differs",
		strings.Replace(text, "seed: 5", "seed: 6", 1): "has seed",
	} {
		if _, err := Compare(ours, folder(t, change)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
