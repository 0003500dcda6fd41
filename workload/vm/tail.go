package vm

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode"

	"github.com/perrin-mesh/perrin/workload/vm/guestwire"
)

// keptConsole bounds what is kept of a machine's console, and of QEMU's own
// words, in bytes: the last ones.
const keptConsole = 16 << 10

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
	all  int64
}

// drain reads r to its end.
func (t *tail) drain(r io.Reader) { _, _ = io.Copy(t, struct{ io.Reader }{r}) }

// Write keeps the last keptConsole bytes.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all += int64(len(p))
	t.text = append(t.text, p[max(0, len(p)-keptConsole):]...)
	t.text = t.text[max(0, len(t.text)-keptConsole):]
	return len(p), nil
}

// reason is the line that says most about why a machine broke off: our init's
// last words, else the kernel's panic, else the last line; "" for none.
func (t *tail) reason() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ours, panicked, last string
	for line := range strings.Lines(string(t.text)) {
		line = plainLine(line)
		if line == "" {
			continue
		}
		last = line
		if rest, ok := strings.CutPrefix(line, guestwire.Said+": "); ok {
			ours = rest
		} else if strings.Contains(line, "Kernel panic") && panicked == "" {
			panicked = line
		}
	}
	for _, line := range []string{ours, panicked, last} {
		if line != "" {
			return line
		}
	}
	return ""
}

// maxLine bounds one line of a machine's in a message, in bytes.
const maxLine = 300

// plainLine leaves printable characters and drops the kernel's time stamp.
func plainLine(line string) string {
	line = strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(line, "")))
	if stamp, rest, ok := strings.Cut(line, "] "); ok && strings.HasPrefix(stamp, "[") && !strings.ContainsAny(stamp[1:], "[]") {
		line = rest
	}
	return line[:min(len(line), maxLine)]
}

// because says reason after a colon.
func because(reason string) string {
	if reason == "" {
		return ""
	}
	return fmt.Sprintf(": %s", reason)
}
