package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// interruptCommand runs perrin, sends a signal each time one of the given
// texts has appeared on stdout or stderr, and compares the exit code:
//
//	interrupt CODE SIGNAL TEXT [SIGNAL TEXT] -- ARGS
//
// What perrin wrote to stderr goes to the file err, what to stdout to out.
func interruptCommand(ts *testscript.TestScript, _ bool, args []string) {
	at := 0
	for at < len(args) && args[at] != "--" {
		at++
	}
	if at < 3 || at == len(args) {
		ts.Fatalf("usage: interrupt CODE SIGNAL TEXT... -- ARGS")
	}
	cmd := exec.CommandContext(context.Background(), "perrin", args[at+1:]...)
	cmd.Path, cmd.Err = lookPath("perrin", ts.Getenv("PATH")), nil
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("HOME"), "WORK=" + ts.Getenv("WORK"),
		"PERRIN_SOCKET=" + ts.Getenv("PERRIN_SOCKET"), "PERRIN_TEST_EMBEDDED=" + ts.Getenv("PERRIN_TEST_EMBEDDED")}
	watch := newWatcher()
	cmd.Stdout, cmd.Stderr = &tap{w: watch}, &tap{w: watch}
	ts.Check(cmd.Start())
	for i := 1; i+1 < at; i += 2 {
		if !watch.until(args[i+1]) {
			ts.Fatalf("never saw %q", args[i+1])
		}
		ts.Check(cmd.Process.Signal(map[string]os.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM}[args[i]]))
	}
	_ = cmd.Wait()
	ts.Check(os.WriteFile(ts.MkAbs("out"), cmd.Stdout.(*tap).all.Bytes(), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("err"), cmd.Stderr.(*tap).all.Bytes(), 0o600))
	if got := cmd.ProcessState.ExitCode(); got != atoi(args[0]) {
		ts.Fatalf("exit code %d, want %s\n%s", got, args[0], cmd.Stderr.(*tap).all.String())
	}
}

func atoi(s string) int {
	n := 0
	for _, r := range s {
		n = 10*n + int(r-'0')
	}
	return n
}

// watcher waits for text to appear in what was written.
type watcher struct {
	mu   sync.Mutex
	grew sync.Cond
	seen strings.Builder
}

func newWatcher() *watcher {
	w := &watcher{}
	w.grew.L = &w.mu
	return w
}

// until returns when text has appeared; the script's own time limit ends it otherwise.
func (w *watcher) until(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !strings.Contains(w.seen.String(), text) {
		w.grew.Wait()
	}
	return true
}

// tap keeps what is written and shows it to a watcher.
type tap struct {
	w   *watcher
	all bytes.Buffer
}

func (t *tap) Write(p []byte) (int, error) {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	t.w.seen.Write(p)
	t.w.grew.Broadcast()
	return t.all.Write(p)
}
