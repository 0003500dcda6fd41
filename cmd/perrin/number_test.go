package main

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestANumberIsNoProgram: "--spare 2 -- true" would run a program named 2.
func TestANumberIsNoProgram(t *testing.T) {
	_, err := findProgram("2", func(string) string { return "" })
	if err == nil || !strings.Contains(err.Error(), `no program "2"`) {
		t.Errorf("%v", err)
	}
	if p, err := findProgram("2to3", func(string) string { return "" }); err != nil || !p.unknown {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestSpareTakesANumber: joined to the flag, as a word of its own, or none; flags may
// follow, and what stands behind a -- is a program.
func TestSpareTakesANumber(t *testing.T) {
	for _, c := range []struct {
		args string
		n    int32
		rest string
	}{
		{"--spare -- true", 1, "true"},
		{"--spare true", 1, "true"},
		{"--spare 2 -- true", 2, "true"},
		{"--spare 3 --memory 1GiB true 4", 3, "true 4"},
		{"--spare=4 true", 4, "true"},
		{"--spare=1 2", 1, "2"}, // refused later: no program is called so
		{"--spare -- 2", 1, "2"},
		{"--spare 2to3", 1, "2to3"},
		{"--spare 0 true", 0, "true"},
	} {
		var s shape
		f := pflag.NewFlagSet("run", pflag.ContinueOnError)
		s.register(f)
		f.SetInterspersed(false)
		if err := f.Parse(strings.Fields(c.args)); err != nil {
			t.Fatalf("%q: %v", c.args, err)
		}
		rest, err := s.spare.word(f, f.Args())
		if got := strings.Join(rest, " "); err != nil || s.spare.n != c.n || got != c.rest {
			t.Errorf("%q: %d and %q, %v; want %d and %q", c.args, s.spare.n, got, err, c.n, c.rest)
		}
		if strings.Contains(c.args, "1GiB") && s.memory != "1GiB" {
			t.Errorf("%q: memory is %s", c.args, s.memory)
		}
	}
}
