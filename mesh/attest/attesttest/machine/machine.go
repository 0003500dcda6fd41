// Package machine boots a whole machine for tests of attestation: firmware that
// measures (OVMF), a distribution's kernel with IMA, a software TPM, and a node's
// collector as the only program. QEMU translates it, so no virtualization is
// needed; a boot takes some 6 s of one processor.
package machine

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/mesh/attest/attesttest"
	"github.com/perrin-mesh/perrin/mesh/attest/attesttest/machine/talk"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/vm/cpio"
	"github.com/perrin-mesh/perrin/workload/vm/tsc"
	"github.com/perrin-mesh/perrin/workload/vm/vmtest"
)

// Machine is a booted machine. It is a collect.Source and a collect.Activator:
// what it is asked, the program inside answers. One question at a time.
type Machine struct {
	// Command is its kernel's command line, and Initrd its first file system.
	Command string
	Initrd  []byte

	qemu *os.Process
	over chan struct{} // closed once QEMU has ended
	conn net.Conn
	in   *json.Decoder
	out  *json.Encoder
}

// Config says what to boot.
type Config struct {
	// Command is added to the kernel's command line, such as ima_policy=tcb.
	Command string
	// Programs are files of the machine, by their absolute path. Init is added.
	Programs map[string][]byte
	// BIOS boots by SeaBIOS, which measures itself and what it starts, but no kernel,
	// into a chip behind the older of the two interfaces.
	BIOS bool
	// Console is where the machine's console is written.
	Console string
}

// InitPath is where the machine's first program lies in it.
const InitPath = "/init"

// Init builds the machine's first program, once in a test binary.
func Init(tb testing.TB) []byte {
	tb.Helper()
	image, err := buildInit()
	if err != nil {
		tb.Fatalf("%v\n%s", err, image)
	}
	return image
}

var buildInit = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "init")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	to := filepath.Join(dir, "init")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", to, "github.com/perrin-mesh/perrin/mesh/attest/attesttest/machine/measured-init")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if said, err := cmd.CombinedOutput(); err != nil {
		return said, err
	}
	return os.ReadFile(to)
})

// bootTime bounds how long a machine may take until it answers: a busy host
// translates it at a tenth of its speed.
const bootTime = 10 * time.Minute

// Boot puts the chip into a machine and starts that. It ends with the test or by
// Off. The test is skipped where there is no QEMU, firmware or kernel.
func Boot(tb testing.TB, chip *attesttest.Chip, c Config) *Machine {
	tb.Helper()
	qemu := vmtest.QEMU(tb)
	firmware := []string{"-device", "tpm-tis,tpmdev=tpm0"}
	if !c.BIOS {
		firmware = []string{"-device", "tpm-crb,tpmdev=tpm0", "-drive", "if=pflash,format=raw,readonly=on,file=" + vmtest.Firmware(tb)}
	}
	kernel, _ := vmtest.Kernel(tb)
	dir := tb.TempDir()
	m := &Machine{Command: command(c.Command), Initrd: archive(tb, Init(tb), c.Programs)}
	initrd := filepath.Join(dir, "initrd")
	if err := os.WriteFile(initrd, m.Initrd, 0o600); err != nil {
		tb.Fatal(err)
	}
	socket, line := chip.Plug()
	listener, err := net.Listen("unix", line)
	if err != nil {
		tb.Fatal(err)
	}
	defer listener.Close()
	cmd := exec.Command(qemu, append(args(kernel, initrd, socket, line, m.Command, c.Console), firmware...)...)
	said := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	m.qemu, m.over = cmd.Process, make(chan struct{})
	go func() {
		defer close(m.over)
		_ = cmd.Wait()
		_ = listener.Close()
	}()
	tb.Cleanup(m.Off)
	if err := m.connect(listener); err != nil {
		m.Off()
		console, _ := os.ReadFile(c.Console)
		tb.Fatalf("the machine does not come up: %v\n%s\n%s", err, said, console[max(0, len(console)-4000):])
	}
	return m
}

// command is the kernel's command line. IMA measures programs in the machine's
// file system only if that is a ramfs.
func command(more string) string {
	line := fmt.Sprintf("console=ttyS0 panic=-1 rdinit=%s rootfstype=ramfs tsc_early_khz=%d tsc=reliable nosmp mitigations=off cryptomgr.notests", InitPath, tsc.KHz())
	return strings.TrimSpace(line + " " + more)
}

// args are those of QEMU. The machine's type is one whose kernel is given to the
// firmware as it is: later ones of QEMU 7.2 write random bytes behind it.
func args(kernel, initrd, chip, line, command, console string) []string {
	return []string{"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none",
		"-machine", "pc-q35-7.1,smm=off", "-accel", "tcg", "-cpu", "max", "-m", "256M",
		"-chardev", "socket,id=chip,path=" + chip, "-tpmdev", "emulator,id=tpm0,chardev=chip",
		"-chardev", "file,id=console,path=" + console, "-serial", "chardev:console",
		"-chardev", "socket,id=line,path=" + line, "-serial", "chardev:line",
		"-kernel", kernel, "-initrd", initrd, "-append", command}
}

func archive(tb testing.TB, first []byte, programs map[string][]byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := cpio.NewWriter(&b)
	w.Device("dev/console", 0o600, 5, 1)
	w.File(InitPath[1:], 0o755, first)
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		w.File(name[1:], 0o755, programs[name])
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// connect waits until the machine's program says that it is there.
func (m *Machine) connect(l net.Listener) (err error) {
	if m.conn, err = l.Accept(); err != nil {
		return errors.New("QEMU has ended")
	}
	_ = m.conn.SetDeadline(time.Now().Add(bootTime))
	lines := bufio.NewReader(m.conn)
	for text := ""; text != talk.Ready; { // the firmware takes every line for a terminal
		if text, err = lines.ReadString('\n'); err != nil {
			return err
		}
	}
	m.in, m.out = json.NewDecoder(lines), json.NewEncoder(m.conn)
	return m.conn.SetDeadline(time.Time{})
}

// Off cuts the power.
func (m *Machine) Off() {
	_ = m.qemu.Kill()
	<-m.over
	if m.conn != nil {
		_ = m.conn.Close()
	}
}

func (m *Machine) ask(ctx context.Context, q talk.Ask) (a talk.Answer, err error) {
	until, ok := ctx.Deadline()
	if !ok {
		until = time.Now().Add(bootTime)
	}
	_ = m.conn.SetDeadline(until)
	if err := m.out.Encode(q); err != nil {
		return a, err
	}
	if err := m.in.Decode(&a); err != nil {
		return a, fmt.Errorf("the machine: %w", err)
	}
	if a.Err != "" {
		return a, errors.New(a.Err)
	}
	return a, nil
}

// Kind implements collect.Source.
func (m *Machine) Kind() workload.Level { return workload.LevelTPM }

// Probe implements collect.Source.
func (m *Machine) Probe() error { return nil }

// Collect implements collect.Source.
func (m *Machine) Collect(ctx context.Context, b *attest.Binding) (*attest.Evidence, error) {
	a, err := m.ask(ctx, talk.Ask{Binding: wire.MustMarshal(b)})
	if err != nil {
		return nil, err
	}
	return attest.Decode(a.Evidence)
}

// Activate implements collect.Activator.
func (m *Machine) Activate(credential, encrypted []byte) ([]byte, error) {
	a, err := m.ask(context.Background(), talk.Ask{Credential: credential, Encrypted: encrypted})
	return a.Secret, err
}

// Run has the machine run one of its programs to its end.
func (m *Machine) Run(path string) error {
	_, err := m.ask(context.Background(), talk.Ask{Run: path})
	return err
}

// Violate has the machine read a file while it is open for writing.
func (m *Machine) Violate(path string) error {
	_, err := m.ask(context.Background(), talk.Ask{Violate: path})
	return err
}

// Program is a program of so few bytes that ends at once with the code given.
func Program(code byte) []byte {
	const base = 0x400000
	text := []byte{0xbf, code, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05} // mov edi, code; mov eax, exit; syscall
	var b bytes.Buffer
	for _, part := range []any{
		elf.Header64{
			Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)}, Type: uint16(elf.ET_EXEC),
			Machine: uint16(elf.EM_X86_64), Version: 1, Entry: base + 64 + 56, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1,
		},
		elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: base, Paddr: base, Filesz: 64 + 56 + uint64(len(text)), Memsz: 64 + 56 + uint64(len(text)), Align: 4096},
		text,
	} {
		_ = binary.Write(&b, binary.LittleEndian, part) // into memory, of fixed size
	}
	return b.Bytes()
}
