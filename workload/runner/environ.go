package runner

import (
	"fmt"
	"io/fs"
	"strings"
)

// Environ returns the environment of an attempt: what every program finds,
// overridden by the attempt's own, and the PERRIN_ names that only the runner sets.
func Environ(a Attempt, path []string) []string {
	set := map[string]bool{}
	var env []string
	for _, e := range a.Env {
		name, _, ok := strings.Cut(e, "=")
		if !ok || name == "" || name == EnvOut || name == EnvUnit || strings.ContainsRune(e, 0) {
			continue
		}
		set[name] = true
		env = append(env, e)
	}
	for _, d := range [][2]string{
		{"PATH", strings.Join(path, ":")}, {"HOME", TmpDir}, {"TMPDIR", TmpDir}, {"LANG", "C.UTF-8"}, {"USER", "perrin"},
	} {
		if !set[d[0]] && d[1] != "" {
			env = append(env, d[0]+"="+d[1])
		}
	}
	if a.Out != "" {
		env = append(env, EnvOut+"="+OutDir)
	}
	if a.Unit != nil {
		env = append(env, EnvUnit+"="+UnitSock)
	}
	return env
}

// CheckTarget returns an error unless target is a relative, clean path that
// stays below the working directory.
func CheckTarget(target string) error {
	if target == "." || !fs.ValidPath(target) || strings.ContainsRune(target, 0) {
		return fmt.Errorf("mount target %.80q: want a clean relative path", target)
	}
	return nil
}
