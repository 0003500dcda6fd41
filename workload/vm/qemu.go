package vm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/sandbox"
	"github.com/perrin-mesh/perrin/workload/vm/guestwire"
	"github.com/perrin-mesh/perrin/workload/vm/tsc"
)

// accel is how a machine's processors run.
type accel string

const (
	kvm accel = "kvm" // on the processor's own virtualization
	tcg accel = "tcg" // translated by QEMU
)

func (a accel) wall() string {
	if a == kvm {
		return runner.WallMicroVM
	}
	return runner.WallEmulated
}

// What QEMU needs beside the guest's memory, in bytes: itself and its devices,
// and the code it translates into, which translated bounds.
const (
	qemuMemory = 128 << 20
	translated = 64 << 20
)

// overhead is the memory of a machine beside its guest's.
func (a accel) overhead() int64 {
	if a == kvm {
		return qemuMemory
	}
	return qemuMemory + translated
}

// Where QEMU finds what belongs to its machine, in its sandbox.
const (
	kernelPath = "/vm/kernel"
	initrdPath = "/vm/initrd"
	diskPath   = "/vm/disk"
	channelFD  = 3 // the first of sandbox.Program.Keep
)

// findQEMU returns the host's QEMU. The sandbox shows /usr only.
func findQEMU() (string, error) {
	for _, dir := range []string{"/usr/bin", "/usr/local/bin"} {
		path := filepath.Join(dir, "qemu-system-x86_64")
		if real, err := filepath.EvalSymlinks(path); err == nil && strings.HasPrefix(real, "/usr/") {
			if p, err := exec.LookPath(path); err == nil {
				return p, nil
			}
		}
	}
	return "", fmt.Errorf("no QEMU: install qemu-system-x86_64 (Debian: qemu-system-x86) under /usr/bin: %w", runner.ErrUnavailable)
}

// qemuArgs are the arguments of every machine: no device, display, monitor or
// configuration that is not named here; QEMU's own seccomp filter inside ours.
// The microvm machine has a tenth of the devices of a PC.
func qemuArgs(a accel, memory int64, cpus int) []string {
	args := []string{"qemu", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-machine", "microvm,x-option-roms=off", "-m", fmt.Sprintf("%dK", memory>>10), "-smp", strconv.Itoa(cpus),
		"-chardev", "file,id=console,path=/dev/stdout", "-serial", "chardev:console"}
	if a == kvm {
		return append(args, "-accel", "kvm", "-cpu", "host")
	}
	return append(args, "-accel", fmt.Sprintf("tcg,tb-size=%d", translated>>20), "-cpu", "max")
}

// guestArgs are those of a machine that runs attempts.
func guestArgs(a accel, disk bool) []string {
	line := "console=ttyS0 loglevel=4 panic=-1 reboot=t rdinit=" + guestwire.InitPath
	if a == tcg {
		line += fmt.Sprintf(" tsc_early_khz=%d tsc=reliable", tsc.KHz())
	}
	var args []string
	if disk {
		line += " " + diskParam
		args = append(args, "-drive", "if=none,id=root,format=raw,read-only=on,file.locking=off,file="+diskPath,
			"-device", "virtio-blk-device,drive=root")
	}
	return append(args, "-kernel", kernelPath, "-initrd", initrdPath, "-append", line,
		"-chardev", fmt.Sprintf("socket,id=node,fd=%d", channelFD),
		"-device", "virtio-serial-device", "-device", "virtserialport,chardev=node,name="+guestwire.PortName)
}

// diskParam tells the guest's init that its root file system is on the disk.
const diskParam = "perrin.disk"

// device is the Linux device of KVM (Documentation/virt/kvm/api.rst).
const (
	device      = "/dev/kvm"
	deviceMajor = 10
	deviceMinor = 232
)

// kvmMount returns what shows the device to the group's user. As root the node
// makes a device file for it, below dir: the host's own is for other users.
func kvmMount(g *sandbox.Group, dir string) (sandbox.Mount, error) {
	m := sandbox.Mount{Source: device, Target: device, Device: true}
	if os.Geteuid() != 0 {
		return m, nil
	}
	m.Source = filepath.Join(dir, "kvm")
	err := unix.Mknod(m.Source, unix.S_IFCHR|0o600, int(unix.Mkdev(deviceMajor, deviceMinor)))
	if err != nil && err != unix.EEXIST {
		return m, fmt.Errorf("a device file for KVM: %w", err)
	}
	return m, g.Chown(m.Source)
}

// processors is how many a slot's machine has: those that it was granted, or
// as many as it asked for.
func processors(slot *runner.Slot) int {
	if n := len(slot.CPUs); n > 0 {
		return min(n, workload.MaxVMCPUs)
	}
	return int(slot.Spec.Resources.CPUs)
}
