package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// suite writes files, and returns their folder.
func suite(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCommand(t *testing.T) {
	dir := suite(t, map[string]string{
		"c/a.wasm": "", "c/b.wasm": "", "c/c.txt": "",
		"c/b.json": `{"args": ["x", "--y"], "dirs": ["fs.dir"], "env": {"B": "2", "A": "1 1"}, "exit_code": 7, "stdout": ""}`,
	})
	cases, err := find(dir)
	if err != nil || len(cases) != 2 || cases[0].name != "c/a.wasm" || cases[0].want.ExitCode != 0 || cases[0].want.Stdout != nil {
		t.Fatalf("%+v, %v", cases, err)
	}
	b := filepath.Join(dir, "c/b.wasm")
	want := []string{"run", "--no-auto-input", "--timeout", "1m", "--env", "A=1 1", "--env", "B=2",
		"--input", filepath.Join(dir, "c/fs.dir") + ":fs.dir", "--", b, "x", "--y"}
	if got := cases[1].command(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestJudge(t *testing.T) {
	text := "hello\n"
	c := testCase{want: wanted{ExitCode: 3, Stdout: &text}}
	for want, r := range map[string]result{
		"":                      {code: 3, stdout: text, stderr: "anything"},
		"exit code 134, want 3": {code: 134, stdout: text, said: "perrin: unreachable"},
		`stdout ""`:             {code: 3},
		"file does not exist":   {err: os.ErrNotExist},
	} {
		if got := c.judge(r); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%+v: %q, want %q", r, got, want)
		}
	}
	program, said := apart("perrin: no daemon is running\nof the program\nperrin: it ended\n")
	if program != "of the program\n" || said != "perrin: it ended" {
		t.Errorf("%q, %q", program, said)
	}
}

// TestReport: what fails for a reason that is documented is told apart from what
// should not fail.
func TestReport(t *testing.T) {
	dir := suite(t, map[string]string{
		"good.wasm": "", "bad.wasm": "", "symlink_create.wasm": "",
		"good.json": `{"stdout": "ran\n"}`, "bad.json": `{"stdout": "other\n"}`, "symlink_create.json": `{"exit_code": 1}`,
		"perrin": "#!/bin/sh\necho ran\n",
	})
	var out, errs bytes.Buffer
	args := []string{"-perrin", filepath.Join(dir, "perrin"), dir}
	if code := run(t.Context(), args, &out, &errs); code != 1 || errs.Len() > 0 {
		t.Errorf("exit code %d, %s", code, &errs)
	}
	for _, want := range []string{"good.wasm            pass", `bad.wasm             FAIL           stdout "ran\n", want "other\n"`,
		"symlink_create.wasm  not supported  makes links", "1 passed, 1 not supported, 1 failed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, &out)
		}
	}
	out.Reset()
	if code := run(t.Context(), append([]string{"-all"}, args...), &out, &errs); code != 1 || !strings.Contains(out.String(), "0 not supported, 2 failed") {
		t.Errorf("exit code %d:\n%s", code, &out)
	}
	if code := run(t.Context(), []string{t.TempDir()}, &out, &errs); code != 2 || !strings.Contains(errs.String(), "no .wasm file there") {
		t.Errorf("exit code %d: %s", code, &errs)
	}
}
