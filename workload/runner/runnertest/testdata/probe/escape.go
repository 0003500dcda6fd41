package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// The verb escape tries to get out. Its arguments name=value tell what there is
// outside. It prints a line for each goal: the goal, a tab, and how it ended; and
// exits with 1 when one was reached. own=GOAL says that what there is of it is the
// program's own, like the root of an image, and kernel=GOAL that it is of a kernel
// of the program's own, where there is nothing to try for.

// outside is what the test has put there.
var outside = map[string]string{}

// mine are the goals whose object may be the program's own.
var mine = map[string]string{}

// goal is something that a program must not reach, with the ways it tries. A way
// that returns nil has reached it.
type goal struct {
	what string
	ways []way
}

type way struct {
	name string
	try  func() error
}

// How a try ends that does not reach its goal.
const (
	refused = "refused"
	nothing = "nothing there"
	noSuch  = "no such interface"
	itsOwn  = "its own"
	kernels = "its own kernel's"
)

// errNothing is what a way returns that found nothing to reach.
var errNothing = errors.New(nothing)

// word says how a try ended.
func word(err error) (string, bool) {
	for _, e := range []error{errNothing, syscall.ENOENT, syscall.ENOTDIR, syscall.ESRCH, syscall.ENETUNREACH, syscall.EHOSTUNREACH,
		syscall.ECONNREFUSED, syscall.ENXIO, syscall.EADDRNOTAVAIL, syscall.ENODEV} {
		if errors.Is(err, e) {
			return nothing, true
		}
	}
	for _, e := range append(platformRefusals, syscall.EPERM, syscall.EACCES, syscall.ENOSYS, syscall.EROFS) {
		if errors.Is(err, e) {
			return refused, true
		}
	}
	return fmt.Sprintf("not refused: %v", err), false
}

func escape(args []string) error {
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		outside[k] = v
		if k == "own" || k == "kernel" {
			mine[v] = k
		}
	}
	var out []string
	for _, g := range append(files(), platformGoals()...) {
		words := map[string]bool{}
		if mine[g.what] == "kernel" {
			fmt.Printf("%s\t%s\n", g.what, kernels)
			continue
		}
		for _, w := range g.ways {
			said, kept := word(w.try())
			if !kept && mine[g.what] == "own" {
				said, kept = itsOwn, true
			}
			words[said] = true
			if !kept {
				out = append(out, g.what+", "+w.name+": "+said)
			}
		}
		var sorted []string
		for w := range words {
			sorted = append(sorted, w)
		}
		slices.Sort(sorted)
		if len(g.ways) == 0 {
			sorted = []string{noSuch}
		}
		fmt.Printf("%s\t%s\n", g.what, strings.Join(sorted, ", "))
	}
	if len(out) > 0 {
		return errors.New(strings.Join(out, "\n"))
	}
	return nil
}

// reads is a way to read a file.
func reads(path string) way {
	return way{"read " + path, func() error {
		text, err := os.ReadFile(path)
		if err == nil && !strings.Contains(string(text), outside["mark"]) {
			return errNothing // a file of its own by that name
		}
		return err
	}}
}

func writes(path string) way {
	return way{"write " + path, func() error {
		f, err := os.Create(path)
		if err == nil {
			f.Close()
			err = os.Remove(path)
		}
		return err
	}}
}

// files are the goals that every kind of program can try for.
func files() []goal {
	secret := outside["secret"]
	up := strings.Repeat("../", 40) + strings.TrimPrefix(secret, "/")
	link := filepath.Join(outside["root"], "link")
	return []goal{
		{"a file of the host, by its path", []way{reads(secret), reads("/etc/shadow"), reads("/root/.ssh/id_ed25519")}},
		{"the same, by way of `..`", []way{reads(up), reads(filepath.Join(outside["root"], "") + "/" + up), reads("input/" + up)}},
		{"the same, by symbolic links that it makes", []way{
			{"absolute", linked(secret, link)}, {"relative", linked(up, link)}, {"to the root", linked("/", link)}, {"in /out", linked(up, "/out/link")},
		}},
		{"the same, by a symbolic link in its input", []way{reads("input/link"), reads("input/up")}},
		{"what belongs to another workload", []way{reads(outside["other"]), writes(filepath.Join(filepath.Dir(outside["other"]), "new"))}},
		{"the node's keys, data and socket", append([]way{reads(outside["key"]), reads(filepath.Dir(outside["key"]))}, sockets()...)},
		{"a change to its input", []way{writes("input/new"), {"rename", func() error { return os.Rename("input/file", "input/renamed") }},
			{"remove", func() error { return os.Remove("input/file") }}, {"truncate", func() error { return os.Truncate("input/file", 0) }}}},
		{"the node's environment", []way{{"read", func() error {
			if os.Getenv(outside["variable"]) == "" {
				return errNothing
			}
			return nil
		}}}},
	}
}

// linked reads through a link that it makes.
func linked(to, name string) func() error {
	return func() error {
		_ = os.Remove(name)
		if err := os.Symlink(to, name); err != nil {
			return err
		}
		defer os.Remove(name)
		path := name
		if to == "/" {
			path = name + outside["secret"]
		}
		return reads(path).try()
	}
}
