package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Plant is a bug to build into the product, without a trace of it in the
// product's own files: `go build -overlay` takes patched copies instead. Its file
// is
//
//	what the bug is
//	catch: CHECK            a check of this package, or a text that a test prints
//	by: schedule NAME       or: by: test PACKAGE TEST
//	-- path/of/a/file.go --
//	<<<<
//	text that stands there exactly once
//	====
//	text to stand there instead
//	>>>>
//
// with as many files, and replacements in each, as the bug takes.
type Plant struct {
	Name  string
	What  string
	Catch string
	By    string // "schedule" or "test"
	At    string // the schedule, or the package
	Test  string
	edits []edit
}

// edit is one replacement in one file.
type edit struct{ path, old, new string }

// ReadPlant reads a plant's file.
func ReadPlant(path string) (*Plant, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p := &Plant{Name: strings.TrimSuffix(filepath.Base(path), ".txt")}
	if err := p.parse(string(raw)); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

func (p *Plant) parse(text string) error {
	file, at := "", 0
	parts := []*[]string{nil, {}, {}} // outside, old, new
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		name, isFile := strings.CutPrefix(line, "-- ")
		switch {
		case at == 0 && isFile:
			file = strings.TrimSuffix(name, " --")
		case at == 0 && line == "<<<<":
			at = 1
		case at == 1 && line == "====":
			at = 2
		case at == 2 && line == ">>>>":
			p.edits = append(p.edits, edit{file, strings.Join(*parts[1], "\n"), strings.Join(*parts[2], "\n")})
			parts, at = []*[]string{nil, {}, {}}, 0
		case at > 0:
			*parts[at] = append(*parts[at], line)
		default:
			p.head(line)
		}
	}
	if at != 0 || len(p.edits) == 0 || p.What == "" || p.Catch == "" || p.At == "" {
		return errors.New("not a plant: it lacks a description, catch, by, or a replacement")
	}
	return nil
}

func (p *Plant) head(line string) {
	key, value, _ := strings.Cut(line, ": ")
	words := strings.Fields(value)
	switch {
	case key == "catch":
		p.Catch = value
	case key == "by" && len(words) == 2 && words[0] == "schedule":
		p.By, p.At = words[0], words[1]
	case key == "by" && len(words) == 3 && words[0] == "test":
		p.By, p.At, p.Test = words[0], words[1], words[2]
	default:
		p.What = strings.TrimSpace(p.What + " " + line)
	}
}

// Overlay writes patched copies of the module's files into dir, and the file that
// the -overlay flag takes, which it returns.
func (p *Plant) Overlay(module, dir string) (string, error) {
	module, err := filepath.Abs(module)
	if err != nil {
		return "", err
	}
	texts := map[string][]byte{}
	for _, e := range p.edits {
		path := filepath.Join(module, filepath.FromSlash(e.path))
		if texts[path] == nil {
			if texts[path], err = os.ReadFile(path); err != nil {
				return "", err
			}
		}
		if n := bytes.Count(texts[path], []byte(e.old)); n != 1 {
			return "", fmt.Errorf("plant %s: %s has this text %d times, want once; say what has become of it:\n%s", p.Name, e.path, n, e.old)
		}
		texts[path] = bytes.Replace(texts[path], []byte(e.old), []byte(e.new), 1)
	}
	var overlay struct{ Replace map[string]string }
	overlay.Replace = map[string]string{}
	for path, text := range texts {
		to := filepath.Join(dir, fmt.Sprintf("%d-%s", len(overlay.Replace), filepath.Base(path)))
		if err := os.WriteFile(to, text, 0o644); err != nil {
			return "", err
		}
		overlay.Replace[path] = to
	}
	raw, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "overlay.json")
	return name, os.WriteFile(name, raw, 0o644)
}
