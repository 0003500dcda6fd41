package sweep

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/perrin-mesh/perrin/simulations/study"
)

const text = `
name: small
seed: 5
duration: 2s
warmup: 500ms
replications: 2
peers: [30, 60]
cell_size: 15
policy: [perrin, {name: random-k, k: [2, 3]}]
machines: [{cores: 4}]
workloads: [{poisson: 20/s, service: 200ms}]
until: {figure: placement_p50, within: 15%, at_most: 5}
`

func noBase(string) ([]byte, error) { return nil, fs.ErrNotExist }

func read(t *testing.T, text string) *Experiment {
	t.Helper()
	e, err := Read("e.yaml", []byte(text), noBase)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func summary(t *testing.T, dir string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, fileSummary))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestSweepGoesOn interrupts a sweep and fills its disk, and wants in the end what
// one that was left alone comes to.
func TestSweepGoesOn(t *testing.T) {
	e := read(t, text)
	if len(e.Cells) != 6 || strings.Join(e.Axes, " ") != "peers policy policy.k" {
		t.Fatalf("%d cells along %v", len(e.Cells), e.Axes)
	}
	whole := filepath.Join(t.TempDir(), "whole")
	want, err := Run(t.Context(), e, []byte(text), whole, Options{Workers: 1, Code: "a"})
	if err != nil || want.Reused != 0 {
		t.Fatalf("%+v, %v", want, err)
	}
	for i := range want.Cells {
		c := &want.Cells[i]
		m, s, err := study.Read(filepath.Join(whole, folderCells, c.Key))
		if err != nil || len(m.Replications) != len(c.Outcome.Results) || len(m.Replications) < 2 {
			t.Fatalf("%s: %v", c.Name(), err)
		}
		if _, err := study.Replay(t.Context(), m, s, "", study.Options{}); err != nil && i == 0 {
			t.Errorf("%s: %v", c.Name(), err)
		}
	}

	dir := filepath.Join(t.TempDir(), "cut")
	ctx, cancel := context.WithCancel(t.Context())
	_, err = Run(ctx, e, []byte(text), dir, Options{Workers: 2, Code: "a", Progress: func(p Progress) { cancel() }})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted: %v", err)
	}
	// The disk fills up while the last cell's first replication is written, and a
	// crash has left half of another file.
	last := (&store{dir: dir}).run(key(&e.Cells[5], "b"), 0)
	torn := (&store{dir: dir}).run(key(&e.Cells[0], "b"), 0)
	if err := errors.Join(os.MkdirAll(filepath.Dir(last), 0o755), os.MkdirAll(filepath.Dir(torn), 0o755),
		os.Symlink("/dev/full", last+".part"), os.WriteFile(torn, []byte("half of it"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), e, []byte(text), dir, Options{Workers: 1, Code: "b"}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("on a full disk: %v", err)
	}
	got, err := Run(t.Context(), e, []byte(text), dir, Options{Workers: 2, Code: "b"})
	if err != nil || got.Reused == 0 || got.Ran == 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	cut := func(s string) (rows []string) { // but for the cells' keys, which name the code
		for line := range strings.Lines(s) {
			_, rest, _ := strings.Cut(line, ",")
			rows = append(rows, rest)
		}
		return rows
	}
	if a, b := strings.Join(cut(summary(t, whole)), ""), strings.Join(cut(summary(t, dir)), ""); a != b {
		t.Errorf("interrupted and continued it comes to\n%s\nleft alone to\n%s", b, a)
	}
	again, err := Run(t.Context(), e, []byte(text), dir, Options{Code: "b"})
	if err != nil || again.Ran != 0 {
		t.Errorf("once more it runs %d, %v", again.Ran, err)
	}
	x, err := ReadIndex(dir)
	if err != nil || !x.Whole || len(x.Cells) != 6 {
		t.Errorf("the index is %+v, %v", x, err)
	}
}

func TestOneSweepAFolder(t *testing.T) {
	dir := t.TempDir()
	s, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.writeJSON(fileSweep, Index{}); err != nil {
		t.Fatal(err)
	}
	if _, err := open(dir); !errors.Is(err, ErrBusy) {
		t.Errorf("a second one: %v", err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "thesis.tex"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(other); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a folder of something else: %v", err)
	}
}

func TestMistakesAreNamed(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"peers: [30, 60]", "peers: [30, 30]", "e.yaml:7:13: peers: 30 is listed twice"},
		{"peers: [30, 60]", "peers: []", "peers: an axis without values"},
		{"peers: [30, 60]", "peeers: [30, 60]", `unknown field "peeers"`},
		{"cell_size: 15", "voters: [1, 4]", "with peers 30, voters 4, policy perrin: e.yaml:8:"},
		{"{name: random-k, k: [2, 3]}", "{name: random, k: [2, 3]}", "policy.k: random has no k"},
		{"name: small", "name: [a, b]", "name is no axis"},
		{"replications: 2", "replications: [2, 3]", "replications is no axis"},
		{"replications: 2", "replications: 9", "until: from 9 to 5 replications is no range"},
		{"placement_p50", "placement_p5", `until.figure: there is no "placement_p5"`},
		{"within: 15%", "within: 0", "until.within: want a share"},
		{"at_most: 5", "most: 5", `until: unknown field "most"`},
		{"seed: 5", "seed: [" + strings.Repeat("1, ", 3) + "1]", "listed twice"},
		{"name: small", "base: nowhere", `base: "nowhere" cannot be read`},
		{"duration: 2s", "duration: [" + numbers(200) + "]\nvoters: [1, 3, 5]\nowners: [" + strings.ReplaceAll(numbers(20), "s", "") + "]", "more than 10000 cells"},
	} {
		if !strings.Contains(text, c.from) {
			t.Fatalf("%q is not in the file", c.from)
		}
		_, err := Read("e.yaml", []byte(strings.Replace(text, c.from, c.to, 1)), noBase)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q in place of %q: got %v, want %q", c.to, c.from, err, c.want)
		}
	}
	var large *TooLarge
	if err := read(t, text).Fits(1 << 20); !errors.As(err, &large) || !strings.Contains(err.Error(), "peers 30") {
		t.Errorf("too large: %v", err)
	}
}

func numbers(n int) string {
	var words []string
	for i := range n {
		words = append(words, strings.Repeat("1", i%9+1)+strings.Repeat("2", i/9)+"s")
	}
	return strings.Join(words, ", ")
}
