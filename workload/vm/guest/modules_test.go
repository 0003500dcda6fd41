package guest

import (
	"reflect"
	"testing"
)

func TestDependenciesOfDrivers(t *testing.T) {
	got := parseDeps("kernel/a/virtio-blk.ko.xz: kernel/b/virtio.ko.xz kernel/b/virtio_ring.ko.xz\nkernel/c.ko:\nnonsense\n")
	if want := map[string][]string{"virtio_blk": {"virtio", "virtio_ring"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("modules.dep: %v, want %v", got, want)
	}
	for image, want := range map[string][]string{
		"ELF\x00license=GPL\x00depends=virtio,virtio-ring\x00name=x\x00": {"virtio", "virtio_ring"},
		"ELF\x00depends=\x00": {}, "ELF": nil, "": nil, "\x00depends=a": {"a"},
	} {
		if got := namedDeps([]byte(image)); len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, want %v", image, got, want)
		}
	}
}
