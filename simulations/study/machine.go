package study

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
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

// ThisMachine is what this process runs on.
func ThisMachine() Machine {
	return Machine{
		OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(), CPU: lineOf("/proc/cpuinfo", "model name"), CPUs: runtime.NumCPU(),
		Memory: kib("MemTotal"),
	}
}

// String returns it in words.
func (m Machine) String() string {
	return fmt.Sprintf("%s/%s, %d CPUs (%s), %d GiB, %s", m.OS, m.Arch, m.CPUs, m.CPU, m.Memory>>30, m.Go)
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

// ChildrenTime is what processes have used that this one has started and that have
// ended.
func ChildrenTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// ThreadTime keeps the calling goroutine on its thread until stop, and returns a
// function that says how much CPU the thread has used since.
func ThreadTime() (used func() time.Duration, stop func()) {
	runtime.LockOSThread()
	now := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(rusageThread, &u); err != nil {
			return 0
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	began := now()
	return func() time.Duration { return now() - began }, runtime.UnlockOSThread
}

// rusageThread is RUSAGE_THREAD of Linux, of one thread.
const rusageThread = 1

// Binary returns the SHA-256 of the running program, which names the code that a
// result comes from; "" when it cannot be read.
var Binary = sync.OnceValue(func() string {
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return ""
	}
	return hex.EncodeToString(sum.Sum(nil))
})

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
