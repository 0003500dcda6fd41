package inside

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
)

// FuzzMessages reads arbitrary bytes as what the daemon tells the init of a
// sandbox, and as what the init, beside which a stranger's program runs, reports.
func FuzzMessages(f *testing.F) {
	for _, v := range []any{
		Config{Args: []string{"true"}, Mounts: []Mount{{Source: "/usr", Target: "/usr", Dir: true}}, Limits: Limits{Files: 9, CPUs: []int{1}}},
		Status{Started: true}, Status{Ended: true, Code: 3, CPUMs: 5}, Status{Error: "no"},
	} {
		var raw bytes.Buffer
		if err := Write(&raw, v); err != nil {
			f.Fatal(err)
		}
		f.Add(raw.Bytes())
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0, 2, '{'})
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, v := range []any{&Config{}, &Status{}} {
			in := bytes.NewReader(raw)
			err := Read(in, v)
			if err != nil && !errors.Is(err, ErrMessage) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%v, want ErrMessage", err)
			}
			if err != nil {
				continue
			}
			var again bytes.Buffer
			if err := Write(&again, v); err != nil {
				t.Fatal(err)
			}
			back := reflect.New(reflect.TypeOf(v).Elem()).Interface()
			if err := Read(&again, back); err != nil {
				t.Errorf("%+v does not survive: %v", v, err)
			}
		}
	})
}
