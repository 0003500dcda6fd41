package load

import (
	"maps"
	"testing"
	"testing/fstest"
)

func TestWaits(t *testing.T) {
	pressure := func(total string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte("some avg10=1.00 avg60=0.00 avg300=0.00 total=" + total + "\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=9\n")}
	}
	g := &Groups{Own: []string{"system.slice/perrin.service", "system.slice/perrin.service/perrin-a", "perrin-a-spare"}, FS: fstest.MapFS{
		"cpu.pressure":                                      pressure("1"),
		"user.slice/cpu.pressure":                           pressure("20"),
		"user.slice/user-1000.slice/cpu.pressure":           pressure("19"),
		"system.slice/cpu.pressure":                         pressure("300"),
		"system.slice/cron.service/cpu.pressure":            pressure("4"),
		"system.slice/perrin.service/cpu.pressure":          pressure("5000"),
		"system.slice/perrin.service/perrin-a/cpu.pressure": pressure("5000"),
		"perrin-a-spare/cpu.pressure":                       pressure("60000"),
		"perrin-b-spare/cpu.pressure":                       pressure("60000"),
		"odd.slice/cpu.pressure":                            &fstest.MapFile{Data: []byte("some avg10=1\n")},
		"none.slice/cgroup.procs":                           &fstest.MapFile{},
	}}
	got := g.waits()
	if want := map[string]int64{"user.slice": 20, "system.slice/cron.service": 4}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if (*Groups)(nil).waits() != nil {
		t.Error("a machine without version 2 cgroups says something")
	}
	if n := longest(map[string]int64{"a": 5, "b": 5, "gone": 1}, map[string]int64{"a": 7, "b": 15, "new": 1000}); n != 10 {
		t.Errorf("the longest wait is %d", n)
	}
}
