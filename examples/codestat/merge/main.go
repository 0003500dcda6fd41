// Merge prints one table of what many codestat tasks counted. It reads the
// folder that `perrin map --output DIR` fills: DIR/INDEX/stdout.
//
// Usage: merge [-top N] DIR
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/perrin-mesh/perrin/examples/codestat/count"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main: it returns 0, 1 when a task's line is missing or not one, and 2
// when it is called in a wrong way. With 1 the table of the other tasks is printed.
func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("merge", flag.ContinueOnError)
	flags.SetOutput(stderr)
	top := flags.Int("top", 10, "folders and identifiers to print")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() != 1 || *top < 1 {
		fmt.Fprintln(stderr, "usage: merge [-top N] DIR")
		return 2
	}
	stats, err := readAll(flags.Arg(0))
	if len(stats) > 0 {
		err = errors.Join(err, print(stdout, stats, *top))
	}
	if err != nil {
		fmt.Fprintln(stderr, "error:", err)
		return 1
	}
	return 0
}

// readAll reads DIR/INDEX/stdout for every INDEX that is a number. With an
// error it returns the good ones as well.
func readAll(dir string) ([]count.Stat, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var stats []count.Stat
	var errs []error
	for _, e := range entries {
		if _, err := strconv.ParseUint(e.Name(), 10, 32); err != nil || !e.IsDir() {
			continue
		}
		s, err := read(filepath.Join(dir, e.Name(), "stdout"))
		if err != nil {
			errs = append(errs, fmt.Errorf("task %s: %w", e.Name(), err))
			continue
		}
		stats = append(stats, s)
	}
	if len(stats)+len(errs) == 0 {
		errs = append(errs, fmt.Errorf("%s has no results: want %s", dir, filepath.Join(dir, "0", "stdout")))
	}
	return stats, errors.Join(errs...)
}

func read(name string) (s count.Stat, err error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return s, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("%s is not a line of codestat: %w", name, err)
	}
	return s, nil
}

// total adds up stats.
func total(stats []count.Stat) (sum count.Stat) {
	uses := map[string]int{}
	for _, s := range stats {
		sum.Files += s.Files
		sum.Lines += s.Lines
		sum.Code += s.Code
		sum.Comment += s.Comment
		sum.Blank += s.Blank
		sum.Functions += s.Functions
		sum.Broken += s.Broken
		if s.Longest.Lines > sum.Longest.Lines {
			sum.Longest, sum.Dir = s.Longest, s.Dir // where the longest is
		}
		for _, id := range s.Identifiers {
			uses[id.Name] += id.Count
		}
	}
	for name, n := range uses {
		sum.Identifiers = append(sum.Identifiers, count.Identifier{Name: name, Count: n})
	}
	return sum
}

// print writes the table: the folders with the most lines, all together, the
// longest function and the most used identifiers.
func print(w io.Writer, stats []count.Stat, top int) error {
	slices.SortFunc(stats, func(a, b count.Stat) int {
		if a.Lines != b.Lines {
			return b.Lines - a.Lines
		}
		return strings.Compare(a.Dir, b.Dir)
	})
	sum, prefix := total(stats), commonFolder(stats)
	var out bytes.Buffer
	t := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "files\tlines\tcode\tcomments\tblank\tfunctions\t  folder")
	for _, s := range stats[:min(top, len(stats))] {
		row(t, s, strings.TrimPrefix(s.Dir, prefix))
	}
	if rest := stats[min(top, len(stats)):]; len(rest) > 0 {
		row(t, total(rest), fmt.Sprintf("%d more", len(rest)))
	}
	row(t, sum, fmt.Sprintf("all %d", len(stats)))
	t.Flush()
	if sum.Longest.Lines > 0 {
		fmt.Fprintf(&out, "\nlongest function: %s, %d lines, %s/%s\n", sum.Longest.Name, sum.Longest.Lines, strings.TrimPrefix(sum.Dir, prefix), sum.Longest.File)
	}
	fmt.Fprintf(&out, "most used identifiers (of each folder's %d): %s\n", count.MaxIdentifiers, identifiers(sum.Identifiers, top))
	if sum.Broken > 0 {
		fmt.Fprintf(&out, "files that are not Go: %d\n", sum.Broken)
	}
	_, err := w.Write(out.Bytes())
	return err
}

func row(w io.Writer, s count.Stat, name string) {
	fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t%d\t  %s\n", s.Files, s.Lines, s.Code, s.Comment, s.Blank, s.Functions, name)
}

func identifiers(list []count.Identifier, top int) string {
	var words []string
	for _, id := range count.Top(list, top) {
		words = append(words, fmt.Sprintf("%s %d", id.Name, id.Count))
	}
	return strings.Join(words, ", ")
}

// commonFolder returns the folders that every name begins with, "a/b/".
func commonFolder(stats []count.Stat) string {
	prefix := stats[0].Dir
	for _, s := range stats {
		for !strings.HasPrefix(s.Dir, prefix) || prefix != "" && !strings.HasSuffix(prefix, "/") || s.Dir == prefix {
			prefix = strings.TrimSuffix(prefix, "/")
			prefix = prefix[:strings.LastIndexByte(prefix, '/')+1]
			if prefix == "" {
				return ""
			}
		}
	}
	return prefix
}
