package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// wanted is the .json file beside a test. What it lacks has Go's zero value, which
// is also the suite's, but for the streams: those count only when they are there.
type wanted struct {
	Args     []string          `json:"args"`
	Dirs     []string          `json:"dirs"` // folders beside the test that it is given by name
	Env      map[string]string `json:"env"`
	ExitCode int               `json:"exit_code"`
	Stdout   *string           `json:"stdout"`
	Stderr   *string           `json:"stderr"`
}

// testCase is one test of a suite.
type testCase struct {
	name string // its file's, below the folder that was named
	file string
	want wanted
}

// find returns the tests below dir, by name.
func find(dir string) (out []testCase, err error) {
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".wasm" {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		c := testCase{name: name, file: path}
		out = append(out, c)
		raw, err := os.ReadFile(strings.TrimSuffix(path, ".wasm") + ".json")
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := json.Unmarshal(raw, &out[len(out)-1].want); err != nil {
			return fmt.Errorf("%s: its .json file: %w", path, err)
		}
		return nil
	})
	return out, err
}

// command is what perrin is told: variables, the folders as inputs, and nothing that
// it finds by itself.
func (c testCase) command() []string {
	args := []string{"run", "--no-auto-input", "--timeout", "1m"}
	for _, name := range slices.Sorted(maps.Keys(c.want.Env)) {
		args = append(args, "--env", name+"="+c.want.Env[name])
	}
	for _, dir := range c.want.Dirs {
		args = append(args, "--input", filepath.Join(filepath.Dir(c.file), dir)+":"+dir)
	}
	return append(append(args, "--", c.file), c.want.Args...)
}

// result is what came of a test.
type result struct {
	code           int
	stdout, stderr string // without what perrin itself says
	said           string // what perrin said last
	err            error  // it was not run at all
}

func (c testCase) start(ctx context.Context, perrin string) result {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, perrin, c.command()...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return result{err: err}
	}
	r := result{code: cmd.ProcessState.ExitCode(), stdout: stdout.String()}
	r.stderr, r.said = apart(stderr.String())
	return r
}

// apart takes the lines of perrin out of what a program wrote to stderr.
func apart(stderr string) (program, last string) {
	for line := range strings.Lines(stderr) {
		if strings.HasPrefix(line, "perrin: ") || strings.HasPrefix(line, "error: ") || strings.HasPrefix(line, "hint: ") {
			last = strings.TrimSpace(line)
			continue
		}
		program += line
	}
	return program, last
}

// judge returns why the result is not the wanted one, "" when it is.
func (c testCase) judge(r result) string {
	switch {
	case r.err != nil:
		return r.err.Error()
	case r.code != c.want.ExitCode:
		return fmt.Sprintf("exit code %d, want %d: %.200s", r.code, c.want.ExitCode, lastLine(r.stderr, r.said))
	case c.want.Stdout != nil && *c.want.Stdout != r.stdout:
		return fmt.Sprintf("stdout %.80q, want %.80q", r.stdout, *c.want.Stdout)
	case c.want.Stderr != nil && *c.want.Stderr != r.stderr:
		return fmt.Sprintf("stderr %.80q, want %.80q", r.stderr, *c.want.Stderr)
	}
	return ""
}

func lastLine(program, said string) string {
	lines := strings.Split(strings.TrimSpace(program), "\n")
	return strings.TrimSpace(lines[len(lines)-1] + " " + said)
}

// unsupported returns why docs/wasi.md says that the test cannot pass, "" when it
// should.
func (c testCase) unsupported() string {
	base := filepath.Base(c.name)
	switch {
	case len(c.want.Dirs) > 0:
		return "wants a folder preopened by name to write in: inputs are read-only, below the one preopened folder /"
	case strings.Contains(base, "symlink") || strings.Contains(base, "path_link") || strings.Contains(base, "hardlink"):
		return "makes links, which are refused"
	case strings.Contains(base, "environ"):
		return "wants no variables but its own: Perrin's are there too"
	case strings.Contains(base, "sock"):
		return "wants a socket, and none is given"
	}
	return ""
}
