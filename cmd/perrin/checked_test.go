package main

import (
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// What came of comparing results is told in sentences that add up.
func TestCheckedLines(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    *api.Checked
		want []string
	}{
		{"nothing compared", nil, nil},
		{"nothing decided", &api.Checked{By: "2of3"}, []string{"to be checked: 2 of at most 3 nodes must return the same; no task is decided yet"}},
		{"adaptive, nothing decided", &api.Checked{By: "adaptive:2of3"}, []string{"but for most tasks of nodes with a record; no task is decided yet"}},
		{"all alone", &api.Checked{By: "adaptive:2of3", Accepted: 5, Alone: 5}, []string{"ran once: 5 tasks, on nodes whose results had agreed 10 times in a row or more"}},
		{"some of each", &api.Checked{By: "adaptive:2of3", Accepted: 9, Alone: 5, Alike: 4, Picked: 1, Doubtful: 2}, []string{
			"checked: 2 of at most 3 agree on 4 tasks, on nodes of one operator", "ran once: 5 tasks", "do not trust 2 tasks of those",
			"picked for a check though their node has a record: 1 task",
		}},
	} {
		lines := checkedLines(tt.c, workload.ID{})
		if len(lines) != len(tt.want) {
			t.Errorf("%s: %q, want %d lines", tt.name, lines, len(tt.want))
			continue
		}
		for i, line := range lines {
			if !strings.Contains(line, tt.want[i]) {
				t.Errorf("%s: %q, want %q", tt.name, line, tt.want[i])
			}
		}
	}
}
