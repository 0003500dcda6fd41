package study

import (
	"runtime/debug"
	"slices"
	"sync"
)

// mostModules bounds the list in a manifest.
const mostModules = 1024

// Modules names the modules that the running program was built of, as MODULE@VERSION
// in order of their names, at most mostModules; none when it does not say.
var Modules = sync.OnceValue(func() []string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	return modules(info)
})

func modules(info *debug.BuildInfo) (out []string) {
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		if m.Path != "" {
			out = append(out, nameOf(m))
		}
	}
	slices.Sort(out)
	return out[:min(len(out), mostModules)]
}

// nameOf says what a module was replaced by, without the path of a folder.
func nameOf(m *debug.Module) string {
	name := m.Path + "@" + m.Version
	switch r := m.Replace; {
	case r == nil:
		return name
	case r.Version == "":
		return name + " => a folder"
	default:
		return name + " => " + r.Path + "@" + r.Version
	}
}
