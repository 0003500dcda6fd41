package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is what /proc counts CPU time in (USER_HZ, 100 on every
// architecture that Go runs on under Linux).
const ticksPerSecond = 100

// maxTree bounds how many processes are looked at.
const maxTree = 4096

// treeUsage sums the CPU time, in milliseconds, of pid and its living
// descendants, and the largest peak of resident memory among them. It serves
// where no cgroup counts and the sandbox is about to be killed: processes that
// are killed with their namespace leave no usage behind.
func treeUsage(pid int) (cpuMs, peak int64) {
	todo := []int{pid}
	for n := 0; len(todo) > 0 && n < maxTree; n++ {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		cpuMs += processTicks(p) * 1000 / ticksPerSecond
		peak = max(peak, processPeak(p))
		todo = append(todo, children(p)...)
	}
	return cpuMs, peak
}

// children lists the processes that any thread of pid has started.
func children(pid int) []int {
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil
	}
	var out []int
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		for _, f := range strings.Fields(string(text)) {
			if c, err := strconv.Atoi(f); err == nil {
				out = append(out, c)
			}
		}
	}
	return out
}

// processTicks returns the time of the process and of the children it has
// waited for (proc_pid_stat(5), fields 14 to 17).
func processTicks(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may hold anything.
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var sum int64
	for i := 11; i <= 14 && i < len(f); i++ {
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return 0
		}
		sum += n
	}
	return sum
}

func processPeak(pid int) int64 { return memoryOf(pid, "VmHWM") }

// memoryOf sums lines of a process's memory, in bytes (proc_pid_status(5)).
func memoryOf(pid int, names ...string) (sum int64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0 // it has ended
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if !slices.Contains(names, name) {
			continue
		}
		if kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64); err == nil {
			sum += kb << 10
		}
	}
	return sum
}

// residentEvery is how often memory is measured where no cgroup can limit it.
const residentEvery = 20 * time.Millisecond

// watchResident kills the sandbox as soon as everything in it but its first
// process together holds more than limit bytes.
func (p *Proc) watchResident(limit int64) {
	tick := time.NewTicker(residentEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-tick.C:
		}
		if residentBytes(p.pid) > limit {
			p.resident.Store(true)
			p.Kill()
			return
		}
	}
}

// residentBytes sums the resident memory of the living descendants of pid that
// they do not share with files. What processes share with each other counts for
// each of them.
func residentBytes(pid int) int64 {
	todo := children(pid)
	var sum int64
	for n := 0; len(todo) > 0 && n < maxTree; n++ {
		p := todo[len(todo)-1]
		todo = append(todo[:len(todo)-1], children(p)...)
		sum += memoryOf(p, "RssAnon", "RssShmem")
	}
	return sum
}
