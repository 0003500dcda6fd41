package report

import (
	"slices"
	"strings"
	"testing"
)

// TestAChartOfItsOwn wants every drawing of a run as a file that needs nothing else.
func TestAChartOfItsOwn(t *testing.T) {
	r, err := Of(folder(t, text), nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := r.Charts()
	if !slices.Contains(keys, "time-from-submission") || !slices.Contains(keys, "threads-in-use") {
		t.Fatalf("the charts are %v", keys)
	}
	for _, key := range keys {
		var b strings.Builder
		f := r.Chart(key)
		if f == nil || f.Key() != key {
			t.Fatalf("%s: found %+v", key, f)
		}
		if err := f.WriteSVG(&b); err != nil {
			t.Fatal(err)
		}
		svg := b.String()
		wellFormed(t, key, svg)
		if !strings.HasPrefix(svg, `<svg xmlns="http://www.w3.org/2000/svg" width="720" height="`) || !strings.Contains(svg, ".band.c0, .m.c0, .place.c0 { fill: #0b62a4 }") {
			t.Errorf("%s begins %.300s", key, svg)
		}
		for _, not := range []string{"var(", "<script", "href=", "url("} {
			if strings.Contains(svg, not) {
				t.Errorf("%s has %s", key, not)
			}
		}
	}
	if f := r.Chart("submission"); f == nil || f.Title != "Time from submission" {
		t.Errorf("a part of a key finds %+v", f)
	}
	for _, key := range []string{"", "figures", "e", "no-such"} { // no drawing, several, none
		if f := r.Chart(key); f != nil {
			t.Errorf("%q finds %s", key, f.Title)
		}
	}
}
