// Package advice looks at a machine for what weakens every wall on it, whatever
// Perrin does: memory that is shared or written to a disk, hyperthreads and
// processors that leak, kernels that nobody mends. It changes nothing.
//
// The list follows Firecracker's advice for hosts of strangers' programs
// (https://github.com/firecracker-microvm/firecracker/blob/main/docs/prod-host-setup.md).
package advice

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// most bounds what is read of a file, in bytes.
const most = 64 << 10

// Of returns a sentence for each thing that the machine whose file system root
// is should have otherwise, with what to do about it. What cannot be read is
// taken to be well.
func Of(root fs.FS) []string {
	var out []string
	for _, look := range []func(fs.FS) string{swap, samePages, hardware, threads, kernel} {
		if s := look(root); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func text(root fs.FS, name string) string {
	f, err := root.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	b := make([]byte, most)
	n, _ := f.Read(b)
	return strings.TrimSpace(string(b[:n]))
}

// swap looks for swap that is not memory itself (proc(5), /proc/swaps).
func swap(root fs.FS) string {
	lines := strings.Split(text(root, "proc/swaps"), "\n")
	for _, line := range lines[1:] {
		device, _, _ := strings.Cut(line, " ")
		if device != "" && !strings.HasPrefix(device, "/dev/zram") {
			return fmt.Sprintf("swap is on (%s): what workloads hold in memory may stay on the disk; encrypt it or run swapoff -a", device)
		}
	}
	return ""
}

// samePages looks for kernel samepage merging
// (https://docs.kernel.org/admin-guide/mm/ksm.html).
func samePages(root fs.FS) string {
	if text(root, "sys/kernel/mm/ksm/run") != "1" {
		return ""
	}
	return "the kernel merges equal pages of memory (KSM): one tenant can time what another holds; echo 0 > /sys/kernel/mm/ksm/run"
}

const flaws = "sys/devices/system/cpu/vulnerabilities"

// hardware names the flaws of the processor that the kernel does not mitigate
// (https://docs.kernel.org/admin-guide/hw-vuln/).
func hardware(root fs.FS) string {
	var open []string
	for _, name := range known(root) {
		if strings.HasPrefix(text(root, path.Join(flaws, name)), "Vulnerable") {
			open = append(open, name)
		}
	}
	if len(open) == 0 {
		return ""
	}
	return "the kernel does not keep programs from reading each other's memory through " + strings.Join(open, ", ") +
		": update the processor's microcode and the kernel, and do not boot with mitigations=off"
}

// threads names the flaws that are open between hyperthreads only.
func threads(root fs.FS) string {
	if text(root, "sys/devices/system/cpu/smt/active") != "1" {
		return ""
	}
	var open []string
	for _, name := range known(root) {
		if strings.Contains(text(root, path.Join(flaws, name)), "SMT vulnerable") {
			open = append(open, name)
		}
	}
	if len(open) == 0 {
		return ""
	}
	return "hyperthreads of one core can read each other's memory through " + strings.Join(open, ", ") +
		": two tenants never share a core here, but your own programs may share one with a tenant; boot with nosmt where that matters"
}

func known(root fs.FS) (names []string) {
	entries, err := fs.ReadDir(root, flaws)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// The oldest kernel that is still mended after 2026 (https://www.kernel.org/category/releases.html).
const (
	oldestMajor = 6
	oldestMinor = 1
)

func kernel(root fs.FS) string {
	release := text(root, "proc/sys/kernel/osrelease")
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n != 2 {
		return ""
	}
	if major > oldestMajor || major == oldestMajor && minor >= oldestMinor {
		return ""
	}
	return fmt.Sprintf("kernel %.40q is older than %d.%d, the oldest that kernel.org still mends: the walls are the kernel's, so update it", release, oldestMajor, oldestMinor)
}
