package inside

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
)

// FuzzStatus reads arbitrary bytes as what a sandbox reports, beside whose first
// process a stranger's program runs.
func FuzzStatus(f *testing.F) {
	status := func(words ...uint64) []byte {
		var b []byte
		for _, w := range words {
			b = binary.NativeEndian.AppendUint64(b, w)
		}
		return b
	}
	f.Add(status(Started, 0, 0, 0, 0))
	f.Add(status(Ended, 0, 256, 5000, 1<<20))
	f.Add(status(Failed, 1, 2, 0, 0))
	f.Add(status(99, 0, 0, 0, 0))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p := &Plan{}
		p.do("only", 1)
		in := bytes.NewReader(raw)
		s, err := ReadStatus(in)
		if err != nil {
			if !errors.Is(err, ErrStatus) && !errors.Is(err, io.EOF) {
				t.Errorf("%v, want ErrStatus", err)
			}
			return
		}
		if s.Kind < Failed || s.Kind > Made || in.Len() != len(raw)-statusWords*8 {
			t.Errorf("%+v of %d bytes, %d left", s, len(raw), in.Len())
		}
		if err := p.Err(s); err == nil {
			t.Error("a failure without a word")
		}
	})
}
