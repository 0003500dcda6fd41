package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine is what the figures were measured on.
type machine struct {
	CPUs   int    `json:"cpus"`
	Model  string `json:"model"`
	Memory int64  `json:"memory"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	Disk   string `json:"disk"` // the file system of the data folders
}

func (m machine) String() string {
	return fmt.Sprintf("%d CPUs (%s), %d GiB, %s, %s, data on %s", m.CPUs, m.Model, m.Memory>>30, m.Kernel, m.Go, m.Disk)
}

func machineOf(dir string) machine {
	m := machine{CPUs: runtime.NumCPU(), Go: runtime.Version() + " " + runtime.GOARCH, Model: cpuModel(), Disk: fileSystem(dir)}
	var uname unix.Utsname
	if unix.Uname(&uname) == nil {
		m.Kernel = unix.ByteSliceToString(uname.Sysname[:]) + " " + unix.ByteSliceToString(uname.Release[:])
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.Memory = int64(info.Totalram) * int64(info.Unit)
	}
	return m
}

func cpuModel() string {
	raw, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(raw)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// fileSystem names the one that dir is on. One in memory has no fsync to measure.
func fileSystem(dir string) string {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return "an unknown file system"
	}
	switch st.Type {
	case unix.TMPFS_MAGIC:
		return "tmpfs: NO FSYNC COSTS IN THESE FIGURES"
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	}
	return fmt.Sprintf("file system %#x", st.Type)
}

// noise is how quiet the machine is: figures of runs whose noise differs do not
// compare.
type noise struct {
	Scenario string  `json:"scenario"`
	SyncP50  float64 `json:"fdatasync_p50_ms"` // of 4 KiB appended
	SyncP99  float64 `json:"fdatasync_p99_ms"`
	Load     string  `json:"load"` // load averages over 1, 5 and 15 minutes

	// Others is how much of the machine's CPUs what is not ours used while the
	// scenario ran, in percent. Above a few, no figure in seconds means anything.
	Others float64 `json:"others_percent"`
	Took   float64 `json:"took_s"`
}

func (n noise) String() string {
	return fmt.Sprintf("fdatasync of 4 KiB p50 %.2f ms, p99 %.2f ms; load %s", n.SyncP50, n.SyncP99, n.Load)
}

// noiseIn measures the disk under dir with 100 small writes.
func noiseIn(dir string) (n noise) {
	raw, _ := os.ReadFile("/proc/loadavg")
	if f := strings.Fields(string(raw)); len(f) > 3 {
		n.Load = strings.Join(f[:3], " ")
	}
	file, err := os.Create(filepath.Join(dir, "noise"))
	if err != nil {
		return n
	}
	defer os.Remove(file.Name())
	defer file.Close()
	var took []float64
	block := make([]byte, 4096)
	for range 100 {
		if _, err := file.Write(block); err != nil {
			return n
		}
		began := time.Now()
		if err := unix.Fdatasync(int(file.Fd())); err != nil {
			return n
		}
		took = append(took, millis(time.Since(began)))
	}
	n.SyncP50, n.SyncP99 = percentile(took, 50), percentile(took, 99)
	return n
}

// account is who has used how much of the CPUs, in ticks.
type account struct{ busy, total, ours int64 }

// accountNow reads the account: ours is this process and all that it started.
func accountNow() (a account) {
	raw, _ := os.ReadFile("/proc/stat")
	first, _, _ := strings.Cut(string(raw), "\n")
	for i, field := range strings.Fields(first) {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil || i > 8 { // guest time is in user time already
			continue
		}
		a.total += n
		if i != 4 && i != 5 { // idle, and waiting for a disk
			a.busy += n
		}
	}
	a.ours = int64(usageOf(os.Getpid()).cpu * ticks / time.Second)
	return a
}

// others is what was used since, and not by us, in percent of all CPUs.
func (a account) others(now account) float64 {
	if now.total <= a.total {
		return 0
	}
	return max(0, float64((now.busy-a.busy)-(now.ours-a.ours))/float64(now.total-a.total)*100)
}

// awaitQuiet waits until others have used less than a twentieth of the CPUs
// for a second, at most for so long.
func awaitQuiet(ctx context.Context, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		before := accountNow()
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
		if before.others(accountNow()) < 5 {
			return nil
		}
	}
	return nil
}
