package vm

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/sandbox"
)

// The self-test's guest switches to 64-bit mode with paging, says testBegins,
// counts, says testEnds, and ends its machine. Where /dev/kvm is there and the
// hypervisor below emulates it instruction by instruction, as some clouds do,
// a kernel would take hours to start; the count tells.
const (
	testBegins = "counting"
	testEnds   = "counted"
	testCount  = 4_000_000
	// testWithin is how long counting may take: it is 2 ms with KVM, 20 ms when
	// translated, and several seconds where it is emulated.
	testWithin = time.Second / 2
	// testStarts is how long QEMU may take to start: it is 0.2 s.
	testStarts = 10 * time.Second
	testMemory = 16 << 20
)

// probePrefix begins the names of self-tests' folders.
const probePrefix = "vm-probe-"

// selfTest runs the guest in a sandbox like any machine's.
func (h *hypervisor) selfTest(ctx context.Context, a accel) (err error) {
	dir, err := os.MkdirTemp(h.dir, probePrefix)
	if err != nil {
		return err
	}
	defer sandbox.RemoveAll(dir)
	kernel := filepath.Join(dir, "kernel")
	if err := os.WriteFile(kernel, testKernel(), 0o644); err != nil {
		return err
	}
	g, err := h.host.NewGroup("probe-"+filepath.Base(dir), sandbox.Limits{Memory: testMemory + a.overhead(), Pids: machineThreads})
	if err != nil {
		return err
	}
	defer g.Close()
	m := &machine{accel: a}
	p := sandbox.Program{Host: true, Path: h.qemu, TmpSize: 1 << 20,
		Args:   append(qemuArgs(a, testMemory, 1), "-kernel", kernelPath, "-device", "isa-debug-exit,iobase=0xf4,iosize=4"),
		Mounts: []sandbox.Mount{{Source: kernel, Target: kernelPath}}}
	if a == kvm {
		if _, err := os.Stat(device); err != nil {
			return fmt.Errorf("no %s", device)
		}
		mount, err := kvmMount(g, dir)
		if err != nil {
			return err
		}
		p.Mounts = append(p.Mounts, mount)
	}
	console, err := m.launch(g, p, nil)
	if err != nil {
		return err
	}
	defer console.Close()
	defer m.stop(0)
	defer context.AfterFunc(ctx, m.Kill)()
	return m.watchCount(console)
}

// watchCount reads the console until the guest has counted.
func (m *machine) watchCount(console *os.File) error {
	late := time.AfterFunc(testStarts, m.Kill)
	defer func() { late.Stop() }()
	lines := bufio.NewScanner(console)
	lines.Buffer(nil, keptConsole)
	began := false
	for lines.Scan() {
		switch strings.TrimSpace(lines.Text()) {
		case testBegins:
			began = true
			late.Stop()
			late = time.AfterFunc(testWithin, m.Kill)
		case testEnds:
			return nil
		}
	}
	if began {
		return fmt.Errorf("a guest runs, but far too slowly for a kernel (%s): it did not count to %d in %s", m.accel, testCount, testWithin)
	}
	m.stop(endFor)
	return fmt.Errorf("QEMU ran no guest%s", because(m.qemu.reason()))
}

// testKernel is an ELF file that QEMU starts at its PVH entry (Xen's
// docs/misc/pvh.pandoc), in 32-bit mode without paging.
func testKernel() []byte {
	const base, headers = 0x100000, 52 + 2*32
	le := binary.LittleEndian
	text := func(s string) []byte { return []byte(s + "\r\n\x00") }

	// The code, the segments at a multiple of 8, a pointer to them, the texts.
	entry, body := len(testEntry(0, 0)), len(testBody(0, 0))
	gdt := base + uint32(entry+body+7)&^7
	begins := gdt + 16 + 6
	ends := begins + uint32(len(text(testBegins)))
	image := append(testEntry(gdt+16, base+uint32(entry)), testBody(begins, ends)...)
	image = append(image, make([]byte, gdt-base-uint32(len(image)))...)
	image = le.AppendUint64(le.AppendUint64(image, 0), 0x00209A0000000000) // null; 64-bit code
	image = le.AppendUint32(le.AppendUint16(image, 15), gdt)
	image = append(append(image, text(testBegins)...), text(testEnds)...)

	note := append(words(4, 4, 18), "Xen\x00"...) // XEN_ELFNOTE_PHYS32_ENTRY
	note = le.AppendUint32(note, base)
	elf := append([]byte("\x7fELF\x01\x01\x01"), make([]byte, 9)...)
	elf = le.AppendUint16(le.AppendUint16(elf, 2), 3) // an executable for i386
	elf = append(elf, words(1, base, 52, 0, 0)...)
	for _, v := range []uint16{52, 32, 2, 0, 0, 0} {
		elf = le.AppendUint16(elf, v)
	}
	size, noted := uint32(len(image)), uint32(len(note))
	elf = append(elf, words(1, headers+noted, base, base, size, size, 7, 1)...)
	elf = append(elf, words(4, headers, 0, 0, noted, noted, 4, 4)...)
	return append(append(elf, note...), image...)
}

// words are 32-bit numbers in a row.
func words(list ...uint32) []byte {
	var b []byte
	for _, v := range list {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

// testEntry is the 32-bit part: page tables for the first 2 MiB, at 2 MiB, then
// the switch to 64-bit mode (Intel SDM, volume 3A, 10.8.5).
func testEntry(gdtPointer, long64 uint32) []byte {
	var code []byte
	add := func(op []byte, operands ...uint32) { code = append(append(code, op...), words(operands...)...) }
	for _, w := range [][2]uint32{{0x200000, 0x201003}, {0x201000, 0x202003}, {0x202000, 0x83}} {
		add([]byte{0xc7, 0x05}, w[0], w[1]) // mov dword [w0], w1
	}
	add([]byte{0xb8}, 0x200000)
	add([]byte{0x0f, 0x22, 0xd8})                                     // cr3 = eax
	add([]byte{0x0f, 0x20, 0xe0, 0x83, 0xc8, 0x20, 0x0f, 0x22, 0xe0}) // cr4 |= PAE
	add([]byte{0xb9}, 0xC0000080)
	add([]byte{0x0f, 0x32, 0x0d}, 0x100)
	add([]byte{0x0f, 0x30})                         // EFER |= LME
	add([]byte{0x0f, 0x20, 0xc0, 0x0d}, 0x80000001) // cr0 |= PG, PE
	add([]byte{0x0f, 0x22, 0xc0})
	add([]byte{0x0f, 0x01, 0x15}, gdtPointer) // lgdt
	add([]byte{0xea}, long64)
	return append(code, 0x08, 0x00) // jmp 8:long64
}

// testBody is the 64-bit part.
func testBody(begins, ends uint32) []byte {
	say := func(text uint32) []byte {
		code := append([]byte{0xbe}, words(text)...)                        // mov esi, text
		code = append(code, 0x66, 0xba, 0xf8, 0x03)                         // mov dx, COM1
		return append(code, 0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8) // until lodsb is 0: out dx, al
	}
	code := append(say(begins), 0xb9)
	code = append(append(code, words(testCount)...), 0xff, 0xc9, 0x75, 0xfc) // dec ecx; jnz
	code = append(code, say(ends)...)
	return append(code, 0xb0, 0x10, 0x66, 0xba, 0xf4, 0x00, 0xee, 0xf4, 0xeb, 0xfd) // isa-debug-exit; hlt
}

// proven runs the self-test once for each way in a process: what it tells
// belongs to the machine.
func (h *hypervisor) proven(ctx context.Context, a accel) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err, done := h.tested[a]; done {
		return err
	}
	err := h.selfTest(ctx, a)
	if a == kvm && err != nil {
		err = fmt.Errorf("this node has no KVM that works: %w: %w", err, runner.ErrUnavailable)
	} else if err != nil {
		err = fmt.Errorf("%w: %w", err, runner.ErrUnavailable)
	}
	if ctx.Err() == nil {
		h.tested[a] = err
	}
	return err
}
