package guest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cgroup counts and bounds an attempt, where the kernel can. A nil one does nothing.
type cgroup struct {
	path string
	dir  *os.File
}

// reserve is what an attempt leaves of the machine's free memory, in bytes, so
// that the kernel ends the attempt and not the machine.
const reserve = 6 << 20

func (a *attempt) newCgroup() *cgroup {
	path := filepath.Join(cgroupDir, "attempt")
	if !a.m.cgroups || os.Mkdir(path, 0o755) != nil {
		return nil
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil
	}
	g := &cgroup{path: path, dir: dir}
	if free := available(); free > 2*reserve {
		g.set("memory.max", free-reserve)
		g.set("memory.swap.max", 0)
	}
	if a.req.Pids > 0 {
		g.set("pids.max", a.req.Pids+initThreads)
	}
	return g
}

// initThreads is what the attempt's own init may need.
const initThreads = 16

func (g *cgroup) set(name string, value int64) {
	if err := os.WriteFile(filepath.Join(g.path, name), []byte(strconv.FormatInt(value, 10)), 0); err != nil {
		say("%s: %v", name, err)
	}
}

// peak is the most memory that the attempt had, in bytes, or 0.
func (g *cgroup) peak() int64 {
	if g == nil {
		return 0
	}
	text, _ := os.ReadFile(filepath.Join(g.path, "memory.peak"))
	n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n
}

func (g *cgroup) remove() {
	if g == nil {
		return
	}
	g.dir.Close()
	if err := os.Remove(g.path); err != nil {
		say("%v", err)
	}
}

// available is how much memory the machine has left, in bytes.
func available() int64 {
	text, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "MemAvailable:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}
