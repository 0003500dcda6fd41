package gvisor

import (
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"github.com/perrin-mesh/perrin/workload/sandbox"
)

// FuzzLog gives End a log of arbitrary bytes, which runsc writes about an image that
// means harm: it says that runsc failed or why the program could not be executed, in
// one short line.
func FuzzLog(f *testing.F) {
	for _, log := range []string{
		"", "\n\n", `{"msg":"failed to load /x: no such file or directory","level":"error"}` + "\n", `{"msg":7}`,
		"{\"msg\":\"exec format error\\n\\u001b[2J\"}\n", "cannot create gofer process: permission denied\n{",
	} {
		f.Add([]byte(log))
	}
	f.Fuzz(func(t *testing.T, log []byte) {
		file, err := os.Create(filepath.Join(t.TempDir(), "log"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.Write(log); err != nil {
			t.Fatal(err)
		}
		s := Start{what: "/bin/x\n", log: file}
		end, why, err := s.End(sandbox.End{Code: errCode})
		switch {
		case err != nil && why != "":
			t.Errorf("both %q and %v", why, err)
		case why != "" && (end.Code != codeNotFound && end.Code != codeNotExecutable || len(why) > 300 || !utf8.ValidString(why)):
			t.Errorf("%q, exit code %d", why, end.Code)
		case err != nil && len(err.Error()) > 1000:
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	})
}
