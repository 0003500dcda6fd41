package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const stream = `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:7: needs the ip program of iproute2\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"--- SKIP: TestA (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:9: it was Monday\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"--- SKIP: TestB (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p","Test":"TestC"}
{"Action":"output","Package":"p","Test":"TestD","Output":"    d_test.go:1: boom\n"}
{"Action":"fail","Package":"p","Test":"TestD"}
{"Action":"output","Package":"p","Test":"TestE","Output":"fatal error: the process died\n"}
{"Action":"output","Package":"p","Output":"FAIL\n"}
{"Action":"fail","Package":"p","Elapsed":1.5}
{"Action":"skip","Package":"q"}
{"Action":"build-output","ImportPath":"z","Output":"z.go:1: no\n"}
not json
`

func TestReport(t *testing.T) {
	var out strings.Builder
	r := newReport(&out, []string{"needs the ip program"})
	if err := r.read(strings.NewReader(stream)); err != nil {
		t.Fatal(err)
	}
	if r.sum() {
		t.Error("all is said to be well")
	}
	if want := []string{"p: TestB: it was Monday"}; !slices.Equal(r.unexpected, want) {
		t.Errorf("unexpected skips %q, want %q", r.unexpected, want)
	}
	for _, want := range []string{
		"d_test.go:1: boom", "fatal error: the process died", "fail p 1.5s", "1 passed, 1 failed, 2 skipped", "1 skipped: needs the ip program",
		"unexpected skip: p: TestB: it was Monday", "failed: p: TestD", "z.go:1: no", "not json",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}

func TestReadPhrases(t *testing.T) {
	path := filepath.Join(t.TempDir(), "skips")
	write := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# a comment\n\nneeds root # CI may be an ordinary user\n")
	if got, err := readPhrases(path); err != nil || !slices.Equal(got, []string{"needs root"}) {
		t.Errorf("got %q, %v", got, err)
	}
	write("needs root\n")
	if _, err := readPhrases(path); err == nil || !strings.Contains(err.Error(), ":1:") {
		t.Errorf("a phrase without a reason: %v", err)
	}
	if code := run([]string{"-skips", path + ".none"}, &strings.Builder{}, &strings.Builder{}); code != 2 {
		t.Errorf("exit code %d without a list", code)
	}
}
