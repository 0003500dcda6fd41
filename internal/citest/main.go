// Command citest runs go test and does not let a skip pass unseen.
//
//	go run ./internal/citest [-skips FILE] [-go-test-flags...] packages...
//
// It prints one line a package, and the whole output of what failed. A test that
// skips itself must give a reason that holds one of the phrases of FILE, which
// lists what a machine may lack; any other skip fails the run, and so does a
// package that does not build. Exit codes: 0 all is well, 1 a failure or an
// unexpected skip, 2 a usage or system error.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	var allowed []string
	if len(args) > 1 && args[0] == "-skips" {
		var err error
		if allowed, err = readPhrases(args[1]); err != nil {
			fmt.Fprintln(stderr, "citest:", err)
			return 2
		}
		args = args[2:]
	}
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = stderr
	pipe, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(stderr, "citest:", err)
		return 2
	}
	r := newReport(stdout, allowed)
	readErr := r.read(pipe)
	waitErr := cmd.Wait()
	var exit *exec.ExitError
	if readErr != nil || waitErr != nil && !errors.As(waitErr, &exit) {
		fmt.Fprintln(stderr, "citest:", errors.Join(readErr, waitErr))
		return 2
	}
	if ok := r.sum(); !ok || waitErr != nil {
		return 1
	}
	return 0
}

// readPhrases reads one phrase a line; what follows " # " says why it is allowed.
func readPhrases(path string) ([]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var phrases []string
	for i, line := range strings.Split(string(b), "\n") {
		phrase, why, _ := strings.Cut(line, " # ")
		switch phrase = strings.TrimSpace(phrase); {
		case phrase == "" || strings.HasPrefix(phrase, "#"):
		case strings.TrimSpace(why) == "":
			return nil, fmt.Errorf("%s:%d: %q: say why after \" # \"", path, i+1, phrase)
		default:
			phrases = append(phrases, phrase)
		}
	}
	return phrases, nil
}

// event is one line of go test -json (go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Elapsed    float64
	Output     string
}

type report struct {
	out        io.Writer
	allowed    []string
	output     map[string][]string // of tests and packages that run
	counts     map[string]int
	skips      map[string]int // allowed, by phrase
	unexpected []string
	failed     []string
}

func newReport(out io.Writer, allowed []string) *report {
	return &report{out: out, allowed: allowed, output: map[string][]string{}, counts: map[string]int{}, skips: map[string]int{}}
}

func (r *report) read(from io.Reader) error {
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		if json.Unmarshal(line, &e) == nil {
			r.take(e)
		} else if len(line) > 0 {
			fmt.Fprintf(r.out, "%s", line)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *report) take(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		r.output[key] = append(r.output[key], e.Output)
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(e, r.output[key])
		} else {
			r.endTest(e, r.output[key])
		}
		delete(r.output, key)
	}
}

func (r *report) endTest(e event, output []string) {
	r.counts[e.Action]++
	switch e.Action {
	case "fail":
		fmt.Fprint(r.out, strings.Join(output, ""))
		r.failed = append(r.failed, e.Package+": "+e.Test)
	case "skip":
		r.skip(e, strings.Join(output, ""))
	}
}

// said is what a test printed itself: file, line and text.
var said = regexp.MustCompile(`(?ms)^\s+\S+\.go:\d+: (.*?)\n--- SKIP|^\s+\S+\.go:\d+: (.*)`)

func (r *report) skip(e event, output string) {
	reason := strings.TrimSpace(output)
	if m := said.FindStringSubmatch(output); m != nil {
		reason = strings.TrimSpace(m[1] + m[2])
	}
	i := slices.IndexFunc(r.allowed, func(phrase string) bool { return strings.Contains(reason, phrase) })
	if i < 0 {
		r.unexpected = append(r.unexpected, fmt.Sprintf("%s: %s: %s", e.Package, e.Test, reason))
		return
	}
	r.skips[r.allowed[i]]++
}

func (r *report) endPackage(e event, output []string) {
	if e.Action == "skip" {
		return // it has no tests
	}
	if e.Action == "fail" {
		r.unfinished(e.Package)
		fmt.Fprint(r.out, strings.Join(output, ""))
		r.failed = append(r.failed, e.Package)
	}
	fmt.Fprintf(r.out, "%-4s %s %.1fs\n", e.Action, e.Package, e.Elapsed)
}

// unfinished prints what tests said that had no end when their process did: why
// it died stands there.
func (r *report) unfinished(pkg string) {
	for _, key := range slices.Sorted(maps.Keys(r.output)) {
		if test, ok := strings.CutPrefix(key, pkg+" "); ok && test != "" {
			fmt.Fprint(r.out, strings.Join(r.output[key], ""))
			delete(r.output, key)
		}
	}
}

// sum prints what happened and reports whether all is well.
func (r *report) sum() bool {
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", r.counts["pass"], r.counts["fail"], r.counts["skip"])
	for _, phrase := range slices.Sorted(maps.Keys(r.skips)) {
		fmt.Fprintf(r.out, "  %d skipped: %s\n", r.skips[phrase], phrase)
	}
	for _, s := range r.unexpected {
		fmt.Fprintf(r.out, "unexpected skip: %s\n", s)
	}
	for _, s := range r.failed {
		fmt.Fprintf(r.out, "failed: %s\n", s)
	}
	return len(r.unexpected) == 0 && len(r.failed) == 0
}
