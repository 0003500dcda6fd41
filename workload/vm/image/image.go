// Package image tells by their first bytes what the parts of a virtual machine
// are: a kernel, archives that the kernel unpacks into memory, and a file
// system that becomes a disk. It looks at heads only; what is wrong further
// inside is found by the guest's kernel, behind the machine's wall.
package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// HeadLen is how many bytes of a part are looked at.
const HeadLen = 2048

// ErrImage is returned for a part that is not what it should be.
var ErrImage = errors.New("not an image")

// Part is what a part beside the kernel is.
type Part string

// An Archive is a cpio archive, compressed or not: an initial RAM disk. A Disk
// is a bare file system, without a partition table.
const (
	Archive Part = "archive"
	Disk    Part = "disk"
)

// Kernel returns an error unless head begins a Linux kernel for x86-64: a
// bzImage (Documentation/arch/x86/boot.rst) or an ELF file.
func Kernel(head []byte) error {
	const (
		bootFlag = 0x1fe // 0xAA55
		header   = 0x202 // "HdrS"
		elf64    = 2
		x8664    = 62
	)
	switch {
	case len(head) > header+4 && binary.LittleEndian.Uint16(head[bootFlag:]) == 0xAA55 && string(head[header:header+4]) == "HdrS":
		return nil
	case len(head) > 20 && bytes.HasPrefix(head, []byte("\x7fELF")):
		if head[4] == elf64 && binary.LittleEndian.Uint16(head[18:]) == x8664 {
			return nil
		}
		return fmt.Errorf("%w: an ELF file, but not for x86-64", ErrImage)
	case len(head) == 0:
		return fmt.Errorf("%w: it is empty", ErrImage)
	}
	return fmt.Errorf("%w: not a Linux kernel (a bzImage such as /boot/vmlinuz-*, or an ELF vmlinux)", ErrImage)
}

// magics are the beginnings of what a kernel can unpack or mount.
var magics = []struct {
	at    int
	magic string
	part  Part
	name  string
}{
	{0, "070701", Archive, "cpio"}, {0, "070702", Archive, "cpio"}, {0, "\x1f\x8b", Archive, "gzip"},
	{0, "\x28\xb5\x2f\xfd", Archive, "zstd"}, {0, "\xfd7zXZ\x00", Archive, "xz"}, {0, "\x02\x21\x4c\x18", Archive, "lz4"},
	{0, "BZh", Archive, "bzip2"}, {0, "hsqs", Disk, "squashfs"}, {1024, "\xe2\xe1\xf5\xe0", Disk, "erofs"},
	{1080, "\x53\xef", Disk, "ext4"}, {0, "XFSB", Disk, "xfs"},
}

// Recognise says what begins with head, and by which format.
func Recognise(head []byte) (part Part, format string, err error) {
	for _, m := range magics {
		if len(head) >= m.at+len(m.magic) && string(head[m.at:m.at+len(m.magic)]) == m.magic {
			return m.part, m.name, nil
		}
	}
	if len(head) == 0 {
		return "", "", fmt.Errorf("%w: it is empty", ErrImage)
	}
	return "", "", fmt.Errorf("%w: neither a bare file system (ext4, squashfs, erofs, xfs) nor a cpio archive", ErrImage)
}

// Check returns an error unless the heads are a kernel and parts, of which at
// most one is a disk. The error names the part by its place: 0 is the kernel.
func Check(heads [][]byte) ([]Part, error) {
	if len(heads) < 2 {
		return nil, fmt.Errorf("%w: want a kernel and a file system or an archive, got %d files", ErrImage, len(heads))
	}
	if err := Kernel(heads[0]); err != nil {
		return nil, &PartError{0, err}
	}
	var parts []Part
	disks := 0
	for i, head := range heads[1:] {
		part, _, err := Recognise(head)
		if err != nil {
			return nil, &PartError{i + 1, err}
		}
		if part == Disk {
			disks++
		}
		if disks > 1 {
			return nil, &PartError{i + 1, fmt.Errorf("%w: a second file system; a machine has one", ErrImage)}
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// PartError says which part is wrong.
type PartError struct {
	Part int // 0 is the kernel
	Err  error
}

// Error names the part.
func (e *PartError) Error() string {
	if e.Part == 0 {
		return "the kernel: " + e.Err.Error()
	}
	return fmt.Sprintf("part %d after the kernel: %v", e.Part, e.Err)
}

// Unwrap returns what is wrong with it.
func (e *PartError) Unwrap() error { return e.Err }
