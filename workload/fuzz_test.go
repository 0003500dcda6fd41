package workload

import (
	"testing"
)

// FuzzNames reads arbitrary text as each kind of name. What is taken is written
// again as a name that means the same.
func FuzzNames(f *testing.F) {
	id := ID{Cell: CellID{1}, Random: [16]byte{2}}
	for _, seed := range []string{"", id.String(), PeerID{3}.String(), DigestOf(nil).String(), CellID{1}.String(), MeshID{4}.String(), "sha256:", "w-", id.Short()} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if id, err := ParseID(text); err == nil {
			if again, err := ParseID(id.String()); err != nil || again != id {
				t.Errorf("ID %q became %q, %v", text, again, err)
			}
		}
		if p, err := ParsePeerID(text); err == nil {
			if again, err := ParsePeerID(p.String()); err != nil || again != p {
				t.Errorf("peer %q became %q, %v", text, again, err)
			}
		}
		if d, err := ParseDigest(text); err == nil {
			if again, err := ParseDigest(d.String()); err != nil || again != d {
				t.Errorf("digest %q became %q, %v", text, again, err)
			}
		}
		var cell, again CellID
		if cell.UnmarshalText([]byte(text)) == nil && (again.UnmarshalText([]byte(cell.String())) != nil || again != cell) {
			t.Errorf("cell %q became %q", text, again)
		}
		var mesh MeshID
		if mesh.UnmarshalText([]byte(text)) == nil && mesh.String() == "" {
			t.Errorf("mesh %q has no name", text)
		}
	})
}
