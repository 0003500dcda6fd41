package sweep

import "testing"

// FuzzRead wants each file to be refused or to be cells within the bounds.
func FuzzRead(f *testing.F) {
	f.Add([]byte(text))
	f.Add([]byte("peers: [[1, 2], [3]]\nduration: [1s]"))
	f.Add([]byte("until: {within: [1, 2]}\nbase: [x]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := Read("fuzz.yaml", data, noBase)
		if err == nil && (len(e.Cells) < 1 || len(e.Cells) > MaxCells) {
			t.Errorf("%d cells", len(e.Cells))
		}
	})
}
