package main

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/perrin-mesh/perrin/workload"
)

// FuzzShape gives the flags of run and map arbitrary values. What is accepted is
// a spec that every node accepts.
func FuzzShape(f *testing.F) {
	f.Add("--memory=1GiB\n--disk=2GB\n--timeout=90s\n--cores=2\n--env=A=b\n--label=a=b\n--where=arch==amd64")
	f.Add("--threads=2\n--pids=9\n--max-price=5\n--retries=3\n--on-partition=continue\n--keep-inputs=all\n--name=x")
	f.Add("--memory=9999PiB\n--timeout=-1s\n--env==\n--label=\n--where=((")
	f.Add("--cores=-1\n--threads=1\n--timeout=0.0000001s\n--env=A\x00=b")
	f.Fuzz(func(t *testing.T, text string) {
		var s shape
		flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
		s.register(flags)
		if flags.Parse(strings.Split(text, "\n")) != nil {
			return
		}
		spec, err := s.spec(func(string) string { return "here" })
		if err != nil {
			return
		}
		spec.Program = workload.Program{Kind: workload.Process, Host: "true", Name: "true"}
		if checkSpec(spec) == nil && spec.Validate() != nil {
			t.Errorf("%q was accepted: %v", text, spec.Validate())
		}
	})
}

// FuzzNamesOfThings reads arbitrary text as ID/TASK and as the place of an input.
func FuzzNamesOfThings(f *testing.F) {
	for _, seed := range []string{"w-abc/3", "w-abc", "/", "a//4294967296", "name/with/7", "../x", ".", "a/../..", "/etc/passwd"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if id, task, err := splitTask(text); err == nil && task != nil {
			n, err := strconv.ParseUint(text[len(id)+1:], 10, 32)
			if err != nil || uint32(n) != *task {
				t.Errorf("%q is task %d of %q", text, *task, id)
			}
		}
		if !strings.ContainsRune(text, 0) && filepath.IsAbs(placeOf(text)) && placeOf(text) != "/" {
			t.Errorf("%q is shipped to %q", text, placeOf(text))
		}
	})
}
