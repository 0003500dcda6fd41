package study

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/perrin-mesh/perrin/simulations/stats"
)

const confidence = stats.Confidence

// Machine is what a study ran on.
type Machine struct {
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	Go     string `json:"go"`
	CPU    string `json:"cpu,omitempty"` // as Linux names it
	CPUs   int    `json:"cpus"`
	Memory int64  `json:"memory,omitempty"` // bytes; 0 is not known
}

func thisMachine() Machine {
	return Machine{
		OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(), CPU: lineOf("/proc/cpuinfo", "model name"), CPUs: runtime.NumCPU(),
		Memory: kib("MemTotal"),
	}
}

// FreeMemory returns the bytes that a process may still use; 0 when the system
// does not say.
func FreeMemory() int64 { return kib("MemAvailable") }

func kib(name string) int64 {
	n, err := strconv.ParseInt(strings.TrimSuffix(lineOf("/proc/meminfo", name), " kB"), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}

// lineOf returns the first value of a name in a file of the kernel's, or "".
func lineOf(file, name string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		if key, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// cpuTime is what this process has used so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
