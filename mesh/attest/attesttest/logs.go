package attesttest

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf16"
)

// Event is one entry of a boot log.
type Event struct {
	PCR  uint32
	Type uint32
	Data []byte
}

// SecureBoot is the event that measures the EFI variable of that name.
func SecureBoot(on bool) Event {
	name := utf16.Encode([]rune("SecureBoot"))
	data := []byte("\x61\xdf\xe4\x8b\xca\x93\xd2\x11\xaa\x0d\x00\xe0\x98\x03\x2b\x8c") // EFI_GLOBAL_VARIABLE
	data = binary.LittleEndian.AppendUint64(data, uint64(len(name)))
	data = binary.LittleEndian.AppendUint64(data, 1)
	for _, u := range name {
		data = binary.LittleEndian.AppendUint16(data, u)
	}
	value := byte(0)
	if on {
		value = 1
	}
	return Event{PCR: 7, Type: 0x80000001, Data: append(data, value)}
}

// Separator ends what the firmware measures into a register.
func Separator(pcr uint32) Event { return Event{PCR: pcr, Type: 4, Data: make([]byte, 4)} }

// BootLog is the crypto-agile log of events, each measured by its data.
func BootLog(events ...Event) []byte {
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2)
	spec = binary.LittleEndian.AppendUint32(spec, 1)
	spec = binary.LittleEndian.AppendUint16(spec, 0x000b)
	spec = binary.LittleEndian.AppendUint16(spec, sha256.Size)
	spec = append(spec, 0)
	log := binary.LittleEndian.AppendUint32(nil, 0)
	log = binary.LittleEndian.AppendUint32(log, 3)
	log = append(log, make([]byte, 20)...)
	log = binary.LittleEndian.AppendUint32(log, uint32(len(spec)))
	log = append(log, spec...)
	for _, e := range events {
		sum := sha256.Sum256(e.Data)
		log = binary.LittleEndian.AppendUint32(log, e.PCR)
		log = binary.LittleEndian.AppendUint32(log, e.Type)
		log = binary.LittleEndian.AppendUint32(log, 1)
		log = binary.LittleEndian.AppendUint16(log, 0x000b)
		log = append(log, sum[:]...)
		log = binary.LittleEndian.AppendUint32(log, uint32(len(e.Data)))
		log = append(log, e.Data...)
	}
	return log
}

// Boot extends the chip as the events say and writes their log below root.
func (c *Chip) Boot(root string, events ...Event) {
	for _, e := range events {
		sum := sha256.Sum256(e.Data)
		c.Extend(e.PCR, sum[:])
	}
	write(c.t, filepath.Join(root, "sys/kernel/security/tpm0/binary_bios_measurements"), BootLog(events...))
}

// IMA is the kernel's list of what it measured.
type IMA struct {
	chip *Chip
	path string
	list []byte
}

// NewIMA begins an empty list below root.
func (c *Chip) NewIMA(root string) *IMA {
	return &IMA{chip: c, path: filepath.Join(root, "sys/kernel/security/ima/binary_runtime_measurements")}
}

// Measure adds a file by its content to the list and the chip.
func (i *IMA) Measure(name string, content []byte) { i.measure(name, sha256.Sum256(content)) }

// Begin adds the entry by which a kernel begins its list: a digest of PCR 0 to 9.
func (i *IMA) Begin(aggregate [sha256.Size]byte) { i.measure("boot_aggregate", aggregate) }

func (i *IMA) measure(name string, sum [sha256.Size]byte) {
	data := entry(sum, name)
	short, own := sha1.Sum(data), sha256.Sum256(data)
	i.add(short[:], data)
	i.chip.Extend(10, own[:])
}

// Violate adds what the kernel writes of a file that was open for writing.
func (i *IMA) Violate(name string) {
	i.add(make([]byte, 20), entry([32]byte{}, name))
	i.chip.Extend(10, bytes.Repeat([]byte{0xff}, 32))
}

// entry is the content of an entry in the template ima-ng.
func entry(sum [sha256.Size]byte, name string) []byte {
	digest := append([]byte("sha256:\x00"), sum[:]...)
	data := binary.LittleEndian.AppendUint32(nil, uint32(len(digest)))
	data = append(data, digest...)
	data = binary.LittleEndian.AppendUint32(data, uint32(len(name)+1))
	return append(append(data, name...), 0)
}

func (i *IMA) add(digest, data []byte) {
	const template = "ima-ng"
	i.list = binary.LittleEndian.AppendUint32(i.list, 10)
	i.list = append(i.list, digest...)
	i.list = binary.LittleEndian.AppendUint32(i.list, uint32(len(template)))
	i.list = append(i.list, template...)
	i.list = binary.LittleEndian.AppendUint32(i.list, uint32(len(data)))
	i.list = append(i.list, data...)
	write(i.chip.t, i.path, i.list)
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
