package terminal

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestProgress draws progress lines at given times. `draw tty=WIDTH` draws as
// on a terminal, where each line shows what one update wrote.
func TestProgress(t *testing.T) {
	datadriven.RunTest(t, "testdata/progress.txt", func(t *testing.T, d *datadriven.TestData) string {
		var width int
		d.MaybeScanArgs(t, "tty", &width)
		start := time.Unix(1000, 0)
		var out, step strings.Builder
		p := NewProgress(&step, width > 0, width, "tasks", start)
		for l := range strings.Lines(d.Input) {
			var at string
			var s State
			if _, err := fmt.Sscan(l, &at, &s.Done, &s.Failed, &s.Total); err != nil {
				t.Fatalf("%s: %v", d.Pos, err)
			}
			after, err := time.ParseDuration(at)
			if err != nil {
				t.Fatal(err)
			}
			step.Reset()
			p.Update(s, start.Add(after))
			if step.Len() > 0 {
				fmt.Fprintf(&out, "%-6s %s\n", at, strings.NewReplacer("\r", "", "\x1b[K", "", "\n", "").Replace(step.String()))
			}
		}
		return out.String()
	})
}

func TestClearAndFinish(t *testing.T) {
	var out strings.Builder
	p := NewProgress(&out, true, 60, "tasks", time.Unix(0, 0))
	p.Clear()
	p.Finish()
	if out.Len() != 0 {
		t.Errorf("nothing was drawn, and %q was removed", out.String())
	}
	p.Update(State{Total: 2}, time.Unix(1, 0))
	out.Reset()
	p.Clear()
	if out.String() != "\r\x1b[K" {
		t.Errorf("clear wrote %q", out.String())
	}
}

func TestFigures(t *testing.T) {
	for got, want := range map[string]string{
		Size(0): "0 B", Size(999): "999 B", Size(1000): "1 KiB", Size(256 << 20): "256 MiB", Size(3 << 29): "1.5 GiB",
		Rate(1234567): "1,234,567 µcr/s", Credits(0): "0 cr", Credits(1_500_000): "1.5 cr", Credits(-1): "-0.000001 cr",
		Count(-12345): "-12,345", Count(999): "999", Plural(1, "node"): "1 node", Plural(0, "node"): "0 nodes",
		Duration(20 * time.Millisecond): "20ms", Duration(4200 * time.Millisecond): "4.2s", Duration(65 * time.Second): "1m 5s",
		Duration(3900 * time.Second): "1h 5m", Duration(50 * time.Hour): "2d 2h", Duration(-1): "0s",
		Clean("a\x1b[31mb\nc\u202ed", 99): "a [31mb c d", Clean("abcdef", 3): "ab…",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestTable(t *testing.T) {
	var out strings.Builder
	tab := NewTable("NAME", "N ", "LAST")
	tab.Row("ä", "1", "x")
	tab.Row("longer", "100", "")
	if err := tab.Write(&out); err != nil {
		t.Fatal(err)
	}
	const want = "NAME      N  LAST\nä         1  x\nlonger  100\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}
