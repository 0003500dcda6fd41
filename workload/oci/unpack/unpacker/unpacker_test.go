package unpacker

import (
	"errors"
	"io"
	"strings"
	"testing"
	"unicode"

	"github.com/perrin-mesh/perrin/workload/oci/image"
)

func TestJobIsBounded(t *testing.T) {
	j := Job{Files: map[string]string{"x": strings.Repeat("x", maxJob)}}
	if err := j.Send(io.Discard); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("%v", err)
	}
}

// FuzzResult: whatever a worker says, there is an answer, and nothing of it can
// steer a terminal.
func FuzzResult(f *testing.F) {
	f.Add("3\n", codeDone)
	f.Add("-1", codeDone)
	f.Add("layer 1: \"../x\" leads out of the image", codeInvalid)
	f.Add("\x1b[2Jno space left on device\r\n", codeFailed)
	f.Add("", codeAlone)
	f.Add(strings.Repeat("é", 4096), 137)
	f.Fuzz(func(t *testing.T, said string, code int) {
		n, err := Result(said, code)
		if err == nil {
			if code != codeDone || n < 0 {
				t.Fatalf("%d of %q", n, said)
			}
			return
		}
		if len(err.Error()) > 4*maxWords || strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("%q", err)
		}
		if errors.Is(err, image.ErrInvalid) != (code == codeInvalid) {
			t.Fatalf("%d: %v", code, err)
		}
	})
}
