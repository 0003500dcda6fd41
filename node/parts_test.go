package node

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/node/worker"
)

func TestMajorityCountsAnswers(t *testing.T) {
	no := errors.New("no")
	for name, c := range map[string]struct {
		answers []error
		ok      bool
	}{
		"one of one":    {[]error{nil}, true},
		"none of one":   {[]error{no}, false},
		"two of three":  {[]error{no, nil, nil}, true},
		"one of three":  {[]error{nil, no, no}, false},
		"one of two":    {[]error{nil, no}, false},
		"three of five": {[]error{no, nil, no, nil, nil}, true},
	} {
		ch := make(chan error, len(c.answers))
		for _, err := range c.answers {
			ch <- err
		}
		if err := majority(ch, len(c.answers)); (err == nil) != c.ok {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestStdinIsFedToEveryAttempt(t *testing.T) {
	in := strings.Repeat("line\n", 50_000)
	p := newStdinReplay(strings.NewReader(in))
	for attempt := range 2 {
		var frames bytes.Buffer
		if err := p.feed(&frames, nil); err != nil {
			t.Fatal(err)
		}
		if got := stdinOf(t, &frames); got != in {
			t.Errorf("attempt %d was fed %d bytes, want %d", attempt, len(got), len(in))
		}
	}
}

func stdinOf(t *testing.T, frames io.Reader) string {
	t.Helper()
	var out strings.Builder
	buf := make([]byte, worker.MaxFrame)
	for {
		kind, data, err := worker.ReadFrame(frames, buf)
		if err != nil {
			t.Fatal(err)
		}
		if kind == worker.FrameStdinEnd {
			return out.String()
		}
		out.Write(data)
	}
}

func TestLostAttemptIsNotShownTwice(t *testing.T) {
	var out bytes.Buffer
	var shown int64
	for _, attempt := range []string{"one two ", "one two three"} {
		var at int64
		for _, part := range strings.SplitAfter(attempt, " ") {
			if err := show(&out, []byte(part), &at, &shown); err != nil {
				t.Fatal(err)
			}
		}
	}
	if out.String() != "one two three" {
		t.Errorf("the owner saw %q", out.String())
	}
}

func TestMetricsAreFlat(t *testing.T) {
	var lines []string
	flatten("perrin", map[string]any{"raft": map[string]any{"term": 3.0, "state": "leader"}, "up": true}, &lines)
	text := strings.Join(lines, "\n")
	if len(lines) != 2 || !strings.Contains(text, "perrin_raft_term 3") || !strings.Contains(text, "perrin_up 1") {
		t.Errorf("got %q", lines)
	}
}
