package model

import (
	"strings"
	"testing"
)

// TestATimeoutEndsATask has tasks of 10 s end after 3 s as failed, and be paid for
// no more, whoever shares their core; those that have the time succeed.
func TestATimeoutEndsATask(t *testing.T) {
	for shape, cores := range map[string]string{"{class: thread}": "1", "{class: core}": "1", "{class: spare}": "4"} {
		for _, c := range []struct {
			timeout string
			takes   float64 // s; 0 is as long as it needs
		}{{"3s", 3}, {"100s", 0}} {
			w := run(t, strings.NewReplacer("{class: thread}", shape+", timeout: "+c.timeout, "cores: 1", "cores: "+cores).Replace(one), 1)
			n := 0
			for l := range w.Workloads() {
				if l.Ended == 0 {
					continue
				}
				n++
				took := float64(l.Ended-l.Began) / 1e9
				tasks := 1.0
				if shape == "{class: core}" {
					tasks = 2 // one after the other
				}
				if c.takes > 0 && (l.Phase != "failed" || took < c.takes*tasks || took > c.takes*tasks+0.5) {
					t.Errorf("%s, timeout %s: workload %d %s after %.2f s", shape, c.timeout, l.Number, l.Phase, took)
				}
				if c.takes == 0 && (l.Phase != "succeeded" || took < 10) {
					t.Errorf("%s, timeout %s: workload %d %s after %.2f s", shape, c.timeout, l.Number, l.Phase, took)
				}
			}
			if f := figures(w); n == 0 || (f["success"] == 100) != (c.takes == 0) {
				t.Errorf("%s, timeout %s: %d workloads ended, %g %% well", shape, c.timeout, n, f["success"])
			}
		}
	}
}

// TestATaskThatGetsSlowerTimesOut has two tasks of 10 s alone each, 16 s together.
func TestATaskThatGetsSlowerTimesOut(t *testing.T) {
	w := run(t, strings.Replace(one, "{class: thread}", "{class: thread}, timeout: 15s", 1), 1)
	if f := figures(w); f["success"] != 0 {
		t.Errorf("%g %% succeed", f["success"])
	}
}

// TestHawkKnowsATracesRows wants a short and a long row of one trace to be told
// apart.
func TestHawkKnowsATracesRows(t *testing.T) {
	w := run(t, strings.NewReplacer("[{clients: 1, think: 1s, tasks: 2, service: 10s, shape: {class: thread}}]", "[{arrivals: [0s 1 1s, 1s 1 30s]}]",
		"peers: 1", "peers: 8\npolicy: {name: hawk, cutoff: 5s}").Replace(one), 1)
	if w.isLong(0) || !w.isLong(1) {
		t.Errorf("long are: 1 s %v, 30 s %v", w.isLong(0), w.isLong(1))
	}
}
