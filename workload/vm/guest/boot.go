package guest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload/vm/guestwire"
	"github.com/perrin-mesh/perrin/workload/vm/image"
)

// machine is what boot has found.
type machine struct {
	port    *os.File
	lower   string // the root file system
	cgroups bool   // memory and pids can be counted
}

// Where the guest keeps what it mounts, in its initial RAM disk.
const (
	rootDir    = "/perrin/root"
	scratchDir = "/perrin/scratch"
	inputsDir  = "/perrin/inputs"
	unitDir    = "/perrin/unit"
	viewDir    = "/perrin/view"
	cgroupDir  = "/sys/fs/cgroup"
)

// Names on the kernel's command line.
const diskParam = "perrin.disk"

// deviceWait bounds how long a device may take to appear after its driver.
const deviceWait = 10 * time.Second

func boot() (*machine, error) {
	for _, m := range []struct{ kind, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := mount(m.kind, m.kind, m.at, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return nil, err
		}
	}
	m := &machine{lower: "/"}
	drivers := newModules("/lib/modules")
	drivers.load("virtio_mmio", "virtio_pci", "virtio_console")
	if onCommandLine(diskParam) {
		drivers.load("virtio_blk")
		if err := m.mountDisk(drivers); err != nil {
			return nil, err
		}
		drivers = newModules(filepath.Join(rootDir, "lib/modules"))
		drivers.load("virtio_console")
	}
	drivers.load("overlay")
	newModules("/lib/modules").load("overlay")
	if known, _ := os.ReadFile("/proc/filesystems"); !strings.Contains(string(known), "\toverlay\n") {
		return nil, errors.New("the kernel has no overlay file system, and no module of it is in the parts' /lib/modules")
	}
	m.prepare()
	var err error
	m.port, err = openPort()
	return m, err
}

func mount(source, kind, at string, flags uintptr, data string) error {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return fmt.Errorf("mount %s: %w", at, err)
	}
	if err := unix.Mount(source, at, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s at %s: %w", kind, at, err)
	}
	return nil
}

func onCommandLine(param string) bool {
	line, _ := os.ReadFile("/proc/cmdline")
	for _, word := range strings.Fields(string(line)) {
		if word == param {
			return true
		}
	}
	return false
}

// await polls for a condition that a driver brings about.
func await(ready func() bool) bool {
	for start := time.Now(); time.Since(start) < deviceWait; time.Sleep(5 * time.Millisecond) {
		if ready() {
			return true
		}
	}
	return false
}

const disk = "/dev/vda"

// mountDisk mounts the root file system.
func (m *machine) mountDisk(drivers *modules) error {
	if !await(func() bool { _, err := os.Stat(disk); return err == nil }) {
		return errors.New("the kernel does not see the disk: it needs virtio_blk and virtio_mmio, built in or as modules in an initial RAM disk that is one of the parts")
	}
	head := make([]byte, image.HeadLen)
	f, err := os.Open(disk)
	if err != nil {
		return err
	}
	n, err := io.ReadFull(f, head)
	f.Close()
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read the root file system: %w", err)
	}
	_, format, err := image.Recognise(head[:n])
	if err != nil {
		return fmt.Errorf("the root file system: %w", err)
	}
	drivers.load(format)
	err = mount(disk, format, rootDir, unix.MS_RDONLY, "")
	if err != nil && format == "ext4" {
		err = mount(disk, format, rootDir, unix.MS_RDONLY, "noload") // its journal needs a replay
	}
	if err != nil {
		return fmt.Errorf("the root file system: %w", err)
	}
	m.lower = rootDir
	return nil
}

// prepare does what a machine can do without.
func (m *machine) prepare() {
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0)
	_ = unix.Sethostname([]byte("perrin"))
	loopbackUp()
	if mount("cgroup2", "cgroup2", cgroupDir, 0, "") == nil {
		err := os.WriteFile(filepath.Join(cgroupDir, "cgroup.subtree_control"), []byte("+memory +pids"), 0)
		m.cgroups = err == nil
	}
}

// loopbackUp lets programs talk to themselves; there is no other interface.
func loopbackUp() {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return // a kernel without networks
	}
	defer unix.Close(fd)
	if ifr, err := unix.NewIfreq("lo"); err == nil {
		ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		_ = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
	}
}

// openPort opens the serial port to the node.
func openPort() (*os.File, error) {
	var name string
	found := await(func() bool {
		names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, file := range names {
			if text, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(text)) == guestwire.PortName {
				name = filepath.Base(filepath.Dir(file))
			}
		}
		return name != ""
	})
	if !found {
		return nil, errors.New("the kernel does not see the port to the node: it needs virtio_console and virtio_mmio, built in or as modules in the parts' /lib/modules")
	}
	// Blocking, so that no poller is asked about a device that it may not know.
	fd, err := unix.Open("/dev/"+name, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the port to the node: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
