package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/api/apitest"
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

// FuzzGather writes what a daemon says of a task, whose files a stranger's node
// has named, into a new folder, and nothing beside it.
func FuzzGather(f *testing.F) {
	for _, outputs := range [][]workload.Output{
		{{Path: "a/b", Data: []byte("x"), Exec: true}, {Path: "stdout"}}, {{Path: "../../x"}}, {{Path: "/etc/x"}, {Path: ""}},
		{{Path: "a"}, {Path: "a/b"}}, {{Path: "a\x00b"}}, {{Path: "b", Blob: workload.Ref{Size: 3}}},
	} {
		raw, err := json.Marshal(api.Task{Index: 3, Result: &workload.TaskResult{Exit: workload.Exited, Outputs: outputs}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	base := f.TempDir()
	fake := apitest.New(nil)
	f.Cleanup(fake.Close)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var task api.Task
		if json.Unmarshal(raw, &task) != nil {
			return
		}
		dir := filepath.Join(base, "out")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		_ = (&gatherer{b: fake}).task(t.Context(), root, &task)
		if entries, err := os.ReadDir(base); err != nil || len(entries) != 1 {
			t.Errorf("%v was written beside the folder: %v", entries, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("one task left %v: %v", entries, err)
		}
	})
}
