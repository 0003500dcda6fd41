package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// What the cell no longer knows of a workload is said, and nothing is said when
// it knows all.
func TestWhySaysWhatHasGone(t *testing.T) {
	for _, tt := range []struct {
		gone *api.WhyGone
		want []string
	}{
		{nil, nil},
		{&api.WhyGone{Kept: 64}, []string{"these are the last 64"}},
		{&api.WhyGone{Kept: 64, Retries: 9000, Results: 1}, []string{
			"these are the last 64", "tells of 9,000 attempts", "the results of 1 attempt that",
		}},
	} {
		var out bytes.Buffer
		a := &app{stdout: &out}
		if err := a.printWhy(&api.Why{Phase: workload.Running, Summary: "as it stands", Gone: tt.gone}); err != nil {
			t.Fatal(err)
		}
		_, text, _ := strings.Cut(out.String(), "as it stands\n")
		lines := strings.Split(strings.TrimSpace(text), "\n")
		if lines[0] == "" {
			lines = nil
		}
		if len(lines) != len(tt.want) {
			t.Fatalf("%+v is told as %q, want %d lines", tt.gone, text, len(tt.want))
		}
		for i, want := range tt.want {
			if !strings.Contains(lines[i], want) {
				t.Errorf("%+v: line %q, want %q", tt.gone, lines[i], want)
			}
		}
	}
}
