package image

import (
	"errors"
	"strings"
	"testing"
)

func head(at int, magic string) []byte {
	b := make([]byte, HeadLen)
	copy(b[at:], magic)
	return b
}

func kernel() []byte {
	b := head(0x202, "HdrS")
	b[0x1fe], b[0x1ff] = 0x55, 0xaa
	return b
}

func TestRecognise(t *testing.T) {
	for _, m := range magics {
		part, format, err := Recognise(head(m.at, m.magic))
		if part != m.part || format != m.name || err != nil {
			t.Errorf("%s: %s %s %v", m.name, part, format, err)
		}
	}
	for name, b := range map[string][]byte{"nothing": nil, "text": []byte("text"), "zeros": make([]byte, HeadLen)} {
		if _, _, err := Recognise(b); !errors.Is(err, ErrImage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheck(t *testing.T) {
	disk, archive, elf := head(1080, "\x53\xef"), head(0, "070701"), head(0, "\x7fELF\x02")
	elf[18] = 62
	for name, c := range map[string]struct {
		heads [][]byte
		want  string // in the error; "" for none
	}{
		"kernel and disk":      {[][]byte{kernel(), disk}, ""},
		"all":                  {[][]byte{elf, archive, disk, archive}, ""},
		"nothing":              {nil, "got 0 files"},
		"a kernel alone":       {[][]byte{kernel()}, "got 1 files"},
		"two disks":            {[][]byte{kernel(), disk, disk}, "part 2 after the kernel: not an image: a second file system"},
		"a disk for a kernel":  {[][]byte{disk, disk}, "the kernel: not an image: not a Linux kernel"},
		"empty":                {[][]byte{{}, disk}, "the kernel: not an image: it is empty"},
		"another architecture": {[][]byte{head(0, "\x7fELF\x02"), disk}, "not for x86-64"},
		"text":                 {[][]byte{kernel(), []byte("text")}, "part 1 after the kernel"},
	} {
		_, err := Check(c.heads)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, ErrImage) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// FuzzCheck: a stranger's heads are told apart or refused, whatever they hold.
func FuzzCheck(f *testing.F) {
	f.Add(kernel(), head(0, "hsqs"))
	f.Add([]byte("\x7fELF"), []byte("\x1f\x8b"))
	f.Add([]byte{}, head(1024, "\xe2\xe1\xf5\xe0"))
	f.Fuzz(func(t *testing.T, kernel, part []byte) {
		parts, err := Check([][]byte{kernel, part})
		if err != nil && !errors.Is(err, ErrImage) {
			t.Errorf("%v, want ErrImage", err)
		}
		if err == nil && (len(parts) != 1 || parts[0] != Archive && parts[0] != Disk) {
			t.Errorf("parts %q", parts)
		}
	})
}
