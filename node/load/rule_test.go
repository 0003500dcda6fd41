package load

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"
)

// TestRule runs transcripts: each `run` takes samples every 250 ms for so long,
// on a machine of 4 threads of which others use, reserved and spare work use so
// many permille of a thread each, and prints each decision that differs from the last.
func TestRule(t *testing.T) {
	datadriven.Walk(t, "testdata/rule", func(t *testing.T, path string) {
		rule := Rule{Config: Default()}
		var s Sample
		var slots []Slot
		last := ""
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var out strings.Builder
			switch d.Cmd {
			case "slots":
				slots = nil
				for _, arg := range d.CmdArgs {
					slots = append(slots, Slot{Key: arg.Key, CPUs: 1, Paused: len(arg.Vals) > 0})
				}
				return ""
			case "run":
				var ms, others, reserved, spare int64
				var memory, disk, waits, waited int64
				d.ScanArgs(t, "ms", &ms)
				d.MaybeScanArgs(t, "others", &others)
				d.MaybeScanArgs(t, "reserved", &reserved)
				d.MaybeScanArgs(t, "spare", &spare)
				d.MaybeScanArgs(t, "waits", &waits)
				d.MaybeScanArgs(t, "memory", &memory)
				d.MaybeScanArgs(t, "disk", &disk)
				s.Threads, s.Memory, s.Disk, s.Quiet = 4, memory, disk, d.HasArg("quiet")
				for range ms / 250 {
					s.At += 250
					waited += 250 * waits
					s.Waits = map[string]int64{"user.slice": waited, "system.slice": waited / 2}
					s.Busy += 250 * (others + reserved + spare)
					s.Own += 250 * (reserved + spare)
					s.Spare += 250 * spare
					if now := fmt.Sprintf("%+v", rule.Step(s, slots)); now != last {
						fmt.Fprintf(&out, "%6d %s\n", s.At, now)
						last = now
					}
				}
				return out.String()
			}
			t.Fatalf("unknown command %q", d.Cmd)
			return ""
		})
	})
}

// TestRuleKeepsItsBounds: whatever is sampled, no more is lent than there is, only
// known slots go, and nothing is lent in quiet hours.
func TestRuleKeepsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rule := Rule{Config: Default()}
		any := rapid.Int64Range(-1<<40, 1<<40)
		var slots []Slot
		for i := range rapid.IntRange(0, 4).Draw(t, "slots") {
			slots = append(slots, Slot{Key: fmt.Sprint(i), CPUs: 1, Paused: rapid.Bool().Draw(t, "paused")})
		}
		at := int64(0)
		for range 20 {
			at += rapid.Int64Range(-5, 20_000).Draw(t, "ms")
			s := Sample{
				At: at, Threads: rapid.IntRange(0, 8).Draw(t, "threads"), Busy: any.Draw(t, "busy"), Own: any.Draw(t, "own"),
				Spare: any.Draw(t, "spare"), Memory: rapid.Int64Range(0, 1000).Draw(t, "memory"),
				Disk: rapid.Int64Range(0, 1000).Draw(t, "disk"), Quiet: rapid.Bool().Draw(t, "quiet"),
			}
			d := rule.Step(s, slots)
			if d.Idle < 0 || d.Idle > s.Threads || d.Others < 0 || d.Others > 1000 || s.Quiet && d.Idle != 0 || d.Quiet != s.Quiet {
				t.Fatalf("%+v: %+v", s, d)
			}
			seen := map[string]bool{}
			for _, key := range d.Evict {
				if seen[key] || len(key) != 1 || key[0] < '0' || int(key[0]-'0') >= len(slots) {
					t.Fatalf("of %+v go %q", slots, d.Evict)
				}
				seen[key] = true
			}
		}
	})
}

const stat = `cpu  100 0 50 1000 7 0 0 0 0 0
cpu0 60 1 30 500 5 2 3 4 50 0
cpu1 40 0 20 500 2 0 0 0 0 0
cpu10 1 1 1 1 1 1 1 1 0 0
intr 5
`

func TestBusy(t *testing.T) {
	for _, tt := range []struct {
		cpus []int
		want int64
	}{{[]int{0}, 100}, {[]int{1}, 60}, {[]int{0, 1}, 160}, {[]int{10}, 6}, {[]int{2}, -1}} {
		got, err := busy(stat, tt.cpus)
		if tt.want < 0 != (err != nil) || err == nil && got != tt.want*tick {
			t.Errorf("CPUs %v: %d, %v, want %d", tt.cpus, got, err, tt.want*tick)
		}
	}
}

func TestPressure(t *testing.T) {
	psi := func(text string) fs.FS { return fstest.MapFS{"pressure/io": {Data: []byte(text)}} }
	for text, want := range map[string]int64{
		"some avg10=1.25 avg60=2.00 avg300=0.00 total=5\nfull avg10=12.50 avg60=0.00 avg300=0.00 total=1\n": 125,
		"some avg10=1.25\n": 0, "full avg10=NaN\n": 0, "full avg10=1e9\n": 0, "": 0,
	} {
		m := Machine{Proc: psi(text)}
		if got := m.pressure("pressure/io", "full"); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// FuzzStat: whatever /proc holds, no time is negative and no share above all.
func FuzzStat(f *testing.F) {
	f.Add(stat, "full avg10=12.50 avg60=0.00")
	f.Add("cpu0 1 1", "full avg10=-1")
	f.Add("cpu0 9999999999999999999 1 1 1 1 1 1", "full")
	f.Fuzz(func(t *testing.T, text, psi string) {
		if n, err := busy(text, []int{0, 1}); err == nil && n < 0 {
			t.Errorf("%d", n)
		}
		m := Machine{Proc: fstest.MapFS{"pressure/io": {Data: []byte(psi)}}}
		if p := m.pressure("pressure/io", "full"); p < 0 || p > 1000 {
			t.Errorf("%d", p)
		}
	})
}
