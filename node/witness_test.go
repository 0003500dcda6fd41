package node_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// witnessWord stands in the command lines of singletons, before their names.
const witnessWord = "perrin-witness-"

// witness looks at the machine's processes, without asking any daemon: a
// singleton that runs in two sandboxes at once runs twice.
type witness struct {
	mu    sync.Mutex
	seen  map[string]int // singletons, and in how many sandboxes each ran
	twice []string
	homes map[string]map[string]bool
}

// witnessEvery is how often it looks. What overlaps for less may be missed.
const witnessEvery = 20 * time.Millisecond

// watchSingletons looks until ctx ends.
func watchSingletons(ctx context.Context) *witness {
	w := &witness{seen: map[string]int{}, homes: map[string]map[string]bool{}}
	go func() {
		tick := time.NewTicker(witnessEvery)
		defer tick.Stop()
		for {
			w.look()
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return w
}

// look takes one picture of the processes.
func (w *witness) look() {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	now := map[string]map[string]bool{}
	for _, d := range dirs {
		if _, err := strconv.Atoi(d.Name()); err != nil {
			continue
		}
		name, sandbox := singleton(filepath.Join("/proc", d.Name()))
		if name == "" {
			continue
		}
		if now[name] == nil {
			now[name] = map[string]bool{}
		}
		now[name][sandbox] = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, sandboxes := range now {
		if len(sandboxes) > 1 {
			w.twice = append(w.twice, fmt.Sprintf("%s in %v", name, sandboxes))
		}
		if w.homes[name] == nil {
			w.homes[name] = map[string]bool{}
		}
		for s := range sandboxes {
			w.homes[name][s] = true
		}
		w.seen[name] = len(w.homes[name])
	}
}

// singleton returns which singleton a process is, if any, and its sandbox. A
// process that ends meanwhile is none.
func singleton(dir string) (name, sandbox string) {
	line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return "", ""
	}
	_, rest, ok := strings.Cut(string(line), witnessWord)
	if !ok {
		return "", ""
	}
	name, _, _ = strings.Cut(rest, "-")
	sandbox, err = os.Readlink(filepath.Join(dir, "ns", "pid"))
	if err != nil {
		return "", ""
	}
	return name, sandbox
}

// verdict returns how many singletons were seen, how many of them in more than
// one sandbox, and those that were in two at once.
func (w *witness) verdict() (seen, again int, twice []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.seen {
		seen++
		if n > 1 {
			again++
		}
	}
	return seen, again, w.twice
}
