package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// usage is what a daemon and all its processes have used, or hold.
type usage struct {
	cpu   time.Duration // since they started; of processes that have ended too
	rss   int64         // bytes, shared pages counted in each process
	pss   int64         // bytes, shared pages shared out
	procs int
}

// ticks is how finely the kernel counts CPU time (sysconf(_SC_CLK_TCK), which
// is 100 on every Linux).
const ticks = 100

// usageOf adds up a process and all that descends from it.
func usageOf(pid int) (u usage) {
	children := childrenOf()
	queue := []int{pid}
	for len(queue) > 0 {
		p := queue[0]
		queue = append(queue[1:], children[p]...)
		u.procs++
		u.cpu += cpuOf(p)
		rss, pss := memoryOf(p)
		u.rss, u.pss = u.rss+rss, u.pss+pss
	}
	return u
}

// stat returns the fields of /proc/PID/stat after the name: the first is the state.
func stat(pid int) []string {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return nil
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	return strings.Fields(rest)
}

func childrenOf() map[int][]int {
	out := map[int][]int{}
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		pid, _ := strconv.Atoi(filepath.Base(name))
		if f := stat(pid); len(f) > 1 {
			parent, _ := strconv.Atoi(f[1])
			out[parent] = append(out[parent], pid)
		}
	}
	return out
}

// cpuOf is user and system time, of the process and of its children that have ended.
func cpuOf(pid int) time.Duration {
	f := stat(pid)
	if len(f) < 15 {
		return 0
	}
	sum := 0
	for _, field := range f[11:15] { // utime, stime, cutime, cstime
		n, _ := strconv.Atoi(field)
		sum += n
	}
	return time.Duration(sum) * time.Second / ticks
}

func memoryOf(pid int) (rss, pss int64) {
	raw, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "Rss:":
			rss = kib << 10
		case "Pss:":
			pss = kib << 10
		}
	}
	return rss, pss
}
