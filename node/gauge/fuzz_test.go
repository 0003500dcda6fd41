package gauge

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzFile: whatever the file holds, what is taken from it is possible on the
// machine, or it is measured anew.
func FuzzFile(f *testing.F) {
	topo := hybrid()
	f.Add([]byte(`{"key":"` + keyOf(cpuinfo, topo) + `","smt":1300,"speeds":[1000,600]}`))
	f.Add([]byte(`{"key":"` + keyOf(cpuinfo, topo) + `","smt":-1,"speeds":[1000,0]}`))
	f.Add([]byte(`{"key":1}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		file := filepath.Join(t.TempDir(), "gauge.json")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := load(t.Context(), topo, cpuinfo, file, (&fake{}).run)
		if err != nil || !r.sane(topo) {
			t.Errorf("%+v, %v", r, err)
		}
	})
}
