package store

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/raft"
)

// TestKilledProcessKeepsWhatItAcknowledged lets a process of its own write to
// three groups, kills it at some moment, and reads its folder; several times on
// the same folder, so that the log is flushed to tables on the way.
func TestKilledProcessKeepsWhatItAcknowledged(t *testing.T) {
	if dir := os.Getenv("PERRIN_TEST_STORE"); dir != "" {
		writeUntilKilled(dir)
		return
	}
	dir := t.TempDir()
	for round := range 5 {
		acked := killWriter(t, dir, 150+70*round)
		s := open(t, dir)
		for name, want := range acked {
			readAll(t, group(t, s, name), want)
		}
		check(t, s.Close())
	}
}

var writers = []string{"a", "b", "c"}

// killWriter runs the writer until it has reported some appends, kills it and
// returns the last entry that it acknowledged for each group.
func killWriter(t *testing.T, dir string, reports int) map[string]uint64 {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledProcessKeepsWhatItAcknowledged$")
	cmd.Env = append(os.Environ(), "PERRIN_TEST_STORE="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	acked, seen := map[string]uint64{}, 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var name string
		var last uint64
		if _, err := fmt.Sscanf(lines.Text(), "acked %1s %d", &name, &last); err != nil {
			continue
		}
		acked[name] = last
		if seen++; seen == reports {
			cmd.Process.Kill()
		}
	}
	cmd.Wait()
	if seen < reports {
		t.Fatalf("the writer ended after %d reports, want %d", seen, reports)
	}
	return acked
}

func writeUntilKilled(dir string) {
	opts := Default()
	opts.Reserve = 0
	s, err := Open(dir, opts, nil)
	if err != nil {
		panic(err)
	}
	var out sync.Mutex
	for _, name := range writers {
		g, err := s.Group(name)
		if err != nil {
			panic(err)
		}
		go func() {
			for {
				last, err := writeMore(g)
				if err != nil {
					panic(err)
				}
				out.Lock()
				fmt.Println("acked", name, last)
				out.Unlock()
			}
		}()
	}
	select {}
}

// writeMore appends 20 entries of 3 kB, replaces the last three and deletes
// everything but the last 500.
func writeMore(g *Group) (uint64, error) {
	_, last := g.span()
	logs := entries(last+1, last+20, 1)
	for _, l := range logs {
		l.Data = append(l.Data, make([]byte, 3000)...)
	}
	if err := g.StoreLogs(logs); err != nil {
		return 0, err
	}
	last += 20
	if last%200 == 0 {
		if err := g.DeleteRange(last-2, last); err != nil {
			return 0, err
		}
		last -= 3
	}
	if last > 1000 && last%60 == 0 {
		return last, g.DeleteRange(1, last-500)
	}
	return last, nil
}

// readAll reads the whole log, which must reach at least to want, less the three
// that the writer may be about to replace.
func readAll(t *testing.T, g *Group, want uint64) {
	t.Helper()
	first, last := g.span()
	if last+3 < want {
		t.Errorf("group %s ends at %d, %d was acknowledged", g.Name(), last, want)
	}
	for i := first; i <= last && last > 0; i++ {
		var l raft.Log
		if err := g.GetLog(i, &l); err != nil || !strings.HasPrefix(string(l.Data), fmt.Sprintf("entry %d of term 1", i)) {
			t.Fatalf("group %s entry %d = %.40q, %v", g.Name(), i, l.Data, err)
		}
	}
}
