package repotest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A fenced block whose info string is "sh runnable" is run as it stands. The
// blocks of a document share one folder, in order, as a reader would type them.
const runnable = "sh runnable"

type block struct {
	line   int
	script string
}

// runnableBlocks returns the runnable fenced blocks of a Markdown text.
func runnableBlocks(text string) (blocks []block) {
	var open *block
	for i, line := range strings.Split(text, "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && open != nil:
			blocks = append(blocks, *open)
			open = nil
		case isFence && strings.TrimSpace(fence) == runnable:
			open = &block{line: i + 2}
		case open != nil:
			open.script += line + "\n"
		}
	}
	return blocks
}

func TestRunnableBlocksAreFound(t *testing.T) {
	text := "a\n```sh runnable\none\ntwo\n```\n```sh\nnot this\n```\n```sh runnable\nthree\n```\n"
	got := runnableBlocks(text)
	want := []block{{3, "one\ntwo\n"}, {10, "three\n"}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestWhatTheDocumentsSayRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("builds perrin and runs the commands of the documents: too long for a short run")
	}
	documents := map[string][]block{}
	files(t, ".md", func(path string, content []byte) {
		if blocks := runnableBlocks(string(content)); len(blocks) > 0 {
			documents[path] = blocks
		} else if path == "README.md" {
			t.Errorf("README.md has no block marked %q: what it tells a reader to type is not held to run", runnable)
		}
	})
	if len(documents) == 0 {
		return
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("needs bash")
	}
	bin := buildPerrin(t)
	for path, blocks := range documents {
		t.Run(path, func(t *testing.T) {
			dir := workingFolder(t, bin)
			for _, b := range blocks {
				if out, err := runBlock(t, bash, dir, b.script); err != nil {
					t.Fatalf("%s:%d: %v\n%s\n%s", path, b.line, err, b.script, out)
				}
			}
		})
	}
}

// buildPerrin returns the folder with a perrin built from this tree.
func buildPerrin(t *testing.T) string {
	bin := t.TempDir()
	cmd := exec.Command("go", "build", "-o", bin+"/perrin", "./cmd/perrin")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

// workingFolder is a folder that looks like the top of the repository, so that
// relative paths work and what a command writes is thrown away.
func workingFolder(t *testing.T, bin string) string {
	dir := t.TempDir()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		target, err := filepath.Abs(filepath.Join(root, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if e.Name() == "bin" || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := os.Symlink(target, filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(bin, filepath.Join(dir, "bin")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// blockPatience bounds one block; what it started is killed with it.
const blockPatience = 2 * time.Minute

func runBlock(t *testing.T, bash, dir, script string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), blockPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, bash, "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"), "HOME="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}
