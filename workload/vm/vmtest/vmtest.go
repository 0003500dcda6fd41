// Package vmtest finds what tests need to boot a machine, or skips them.
package vmtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// KernelEnv names a folder with a kernel, as a distribution's package has it:
// boot/vmlinuz-RELEASE and lib/modules/RELEASE. `make deps` fills the default.
const (
	KernelEnv    = "PERRIN_TEST_KERNEL"
	kernelFolder = "/var/cache/perrin-test/kernel"
)

// QEMU returns the path of QEMU.
func QEMU(tb testing.TB) string {
	tb.Helper()
	path, err := exec.LookPath("/usr/bin/qemu-system-x86_64")
	if err != nil {
		tb.Skip("no QEMU; `make deps` installs it")
	}
	return path
}

// Firmware returns the path of UEFI firmware that measures into a TPM (OVMF).
func Firmware(tb testing.TB) string {
	tb.Helper()
	for _, name := range []string{"OVMF_CODE.fd", "OVMF_CODE_4M.fd"} { // the small one starts in half the time
		if path := filepath.Join(firmwareFolder, name); exists(path) {
			return path
		}
	}
	tb.Skipf("no firmware that measures in %s; `make deps` installs OVMF", firmwareFolder)
	return ""
}

// firmwareFolder is that of Debian's package ovmf.
const firmwareFolder = "/usr/share/OVMF"

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Kernel returns a kernel's path and the folder that its package was unpacked in.
func Kernel(tb testing.TB) (kernel, folder string) {
	tb.Helper()
	folder = os.Getenv(KernelEnv)
	if folder == "" {
		folder = kernelFolder
	}
	found, _ := filepath.Glob(filepath.Join(folder, "boot", "vmlinuz-*"))
	if len(found) == 0 {
		tb.Skipf("no kernel to boot in %s; `make deps` puts one there, %s names another folder", folder, KernelEnv)
	}
	return found[0], folder
}
