package gvisor

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/perrin-mesh/perrin/workload/sandbox"
)

func TestFlagsOfReleases(t *testing.T) {
	const old, middle, late = "  -rootless\n  -fsgofer-host-uds\n", "  -host-uds value\n  -rootless\n", "  -host-uds value\n  -rootless\n  -overlay2 value\n  -directfs\n"
	if got := flagsOf(old); got != nil {
		t.Errorf("a release that opens no sockets: %q", got)
	}
	has := func(flags []string, name string) bool {
		return slices.ContainsFunc(flags, func(f string) bool { return strings.HasPrefix(f, name) })
	}
	if got := flagsOf(middle); has(got, "--overlay2") || has(got, "--directfs") || !has(got, "--network=none") || !has(got, "--rootless") {
		t.Errorf("%q", got)
	}
	if got := flagsOf(late); !has(got, "--overlay2=none") || !has(got, "--directfs=false") {
		t.Errorf("%q", got)
	}
}

// TestStart: what runsc is told, and what its end means.
func TestStart(t *testing.T) {
	dir := t.TempDir()
	r := &Runtime{path: "/usr/bin/runsc", flags: []string{"--rootless"}}
	s, err := r.Wrap(sandbox.Program{Args: []string{"sh", "-c", "true"}, Env: []string{"A=b"}, Dir: "/app/../srv", User: &sandbox.User{UID: 33}, Search: []string{"/bin"}}, dir, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p := s.Program
	if !p.Runtime || p.Path != "/usr/bin/runsc" || p.User.UID != 0 || p.Search != nil || strings.Join(p.Args, " ") != "runsc --rootless run --bundle=/perrin/bundle attempt" {
		t.Errorf("%+v", p)
	}
	if last := p.Mounts[len(p.Mounts)-1]; !last.Aside || last.Write || last.Target != "/perrin/bundle" {
		t.Errorf("%+v", last)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "bundle/config.json"))
	var c config
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	if err != nil || c.Process.Dir != "/srv" || c.Process.Args[2] != "true" || !c.Process.NoNew || c.Root.Path != "/perrin/root" || len(c.Linux.Namespaces) != 5 {
		t.Errorf("%s, %v", raw, err)
	}
	s.what = "/x"
	for _, e := range []struct {
		end    sandbox.End
		log    string
		code   int
		signal syscall.Signal
		why    string // it cannot execute /x
		fails  bool
	}{
		{end: sandbox.End{Code: 7}, code: 7},
		{end: sandbox.End{Code: 137}, signal: 9},
		{end: sandbox.End{Code: 200}, code: 200},
		{end: sandbox.End{Code: 128}, code: 128},
		{end: sandbox.End{Signal: 9, Broken: true}, signal: 9},
		{end: sandbox.End{Code: 128}, log: `{"msg":"starting container: failed to load /x: no such file or directory","level":"error"}` + "\n", code: 127, why: "no such file or directory"},
		{end: sandbox.End{Code: 128}, log: "failed to load /x: permission denied\n", code: 126, why: "permission denied"},
		{end: sandbox.End{Code: 128}, log: "cannot create gofer process\n", code: 127, fails: true},
	} {
		if err := s.log.Truncate(0); err != nil {
			t.Fatal(err)
		}
		if _, err := s.log.WriteString(e.log); err != nil {
			t.Fatal(err)
		}
		if e.why != "" {
			e.why = `cannot execute "/x": ` + e.why
		}
		got, why, err := s.End(e.end)
		if got.Code != e.code || got.Signal != e.signal || why != e.why || (err != nil) != e.fails {
			t.Errorf("%+v with %q: %+v, %q, %v", e.end, e.log, got, why, err)
		}
	}
}
