package model

import (
	"strconv"
	"strings"
	"testing"
)

// TestATraceIsReplayed wants every row to come when it says, with its tasks, its
// owner and its time.
func TestATraceIsReplayed(t *testing.T) {
	w := run(t, strings.Replace(mesh, "workloads: [{poisson: 15/s, service: {lognormal: {median: 800ms, sigma: 0.5}, max: 10s}}]",
		"workloads: [{arrivals: [0s 1 2s 1, 1500ms 5 300ms 2, 1500ms 1 100ms 1, 29s 1 1s 0]}]", 1), 1)
	var got []string
	for l := range w.Workloads() {
		got = append(got, strings.Join([]string{fmtMs(l.Arrived), fmtMs(int64(l.Tasks) * millisecond), fmtMs(int64(l.Owner) * millisecond), fmtMs(w.service(l.Number, 0))}, " "))
		if l.Number < 3 && (l.Ended == 0 || l.Ended < l.Began+w.service(l.Number, 0)) {
			t.Errorf("workload %d began at %d and ended at %d", l.Number, l.Began, l.Ended)
		}
	}
	if want := "0 1 1 2000,1500 5 2 300,1500 1 1 100,29000 1 0 1000"; strings.Join(got, ",") != want {
		t.Errorf("got %s, want %s", strings.Join(got, ","), want)
	}
}

func fmtMs(ns int64) string { return strconv.FormatInt(ns/millisecond, 10) }
