package load

import (
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// Groups are the version 2 cgroups of a machine.
type Groups struct {
	FS  fs.FS    // from the top of the hierarchy
	Own []string // the node's own, by their paths from there: they wait for each other
}

// maxGroups bounds how many cgroups are looked at; a machine has some tens beside
// a node's own.
const maxGroups = 256

// nodePrefix begins the name of every node's cgroups (sandbox.Config.Prefix): what
// another node's spare work waits for is nobody's need.
const nodePrefix = "perrin-"

// waits returns for each cgroup beside the node's own how long some program of it
// has waited for a CPU so far, in us (cpu.pressure, "some", total). The top ones
// stand for what is below them, but those that the node's own lie in, which are
// looked into.
func (g *Groups) waits() map[string]int64 {
	if g == nil {
		return nil
	}
	out := map[string]int64{}
	g.below(".", out)
	return out
}

func (g *Groups) below(dir string, out map[string]int64) {
	entries, err := fs.ReadDir(g.FS, dir)
	if err != nil {
		return // it may be gone
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if !e.IsDir() || strings.HasPrefix(e.Name(), nodePrefix) || len(out) >= maxGroups {
			continue
		}
		own, above := g.is(name)
		switch {
		case above:
			g.below(name, out)
		case !own:
			if us, ok := someTotal(g.FS, path.Join(name, "cpu.pressure")); ok {
				out[name] = us
			}
		}
	}
}

// is reports whether a cgroup is the node's own, or above one that is.
func (g *Groups) is(name string) (own, above bool) {
	for _, o := range g.Own {
		own = own || o == name
		above = above || strings.HasPrefix(o, name+"/")
	}
	return own, above && !own
}

// someTotal reads "some avg10=0.00 avg60=0.00 avg300=0.00 total=12345".
func someTotal(from fs.FS, name string) (us int64, ok bool) {
	text, err := fs.ReadFile(from, name)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "some" {
			continue
		}
		total, found := strings.CutPrefix(f[len(f)-1], "total=")
		us, err := strconv.ParseInt(total, 10, 64)
		return us, found && err == nil && us >= 0
	}
	return 0, false
}

// longest is the most that one cgroup waited since an earlier look, in us.
func longest(before, now map[string]int64) (most int64) {
	for name, us := range now {
		if was, ok := before[name]; ok {
			most = max(most, us-was)
		}
	}
	return most
}
