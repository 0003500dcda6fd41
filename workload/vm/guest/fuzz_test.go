package guest

import (
	"slices"
	"strings"
	"testing"
)

// FuzzDrivers: an owner's drivers and lists of them name dependencies by the
// kernel's names, or none.
func FuzzDrivers(f *testing.F) {
	f.Add("kernel/a/virtio-blk.ko.xz: kernel/b/virtio.ko.xz", []byte("\x00depends=virtio,virtio-ring\x00"))
	f.Add(":\n::a", []byte("\x00depends="))
	f.Add("a.ko: a.ko\n", []byte("\x00depends=,,a"))
	f.Fuzz(func(t *testing.T, list string, image []byte) {
		names := namedDeps(image)
		for name, deps := range parseDeps(list) {
			names = append(append(names, name), deps...)
		}
		if slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, "-") }) {
			t.Errorf("names %q", names)
		}
	})
}
