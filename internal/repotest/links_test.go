package repotest

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// link is [text](target) and ![text](target) of Markdown.
var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestDocumentsLinkToWhatExists holds that every relative link of a document
// leads to a file of the repository.
func TestDocumentsLinkToWhatExists(t *testing.T) {
	seen := 0
	files(t, ".md", func(name string, content []byte) {
		for _, target := range relativeLinks(string(content)) {
			seen++
			at := filepath.Join(root, path.Dir(name), target)
			if _, err := os.Stat(at); errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s links to %s, which does not exist", name, target)
			} else if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	if seen < 20 {
		t.Errorf("%d links found: the documents have moved", seen)
	}
}

// relativeLinks are the files that a text links to, without fragments.
func relativeLinks(text string) (targets []string) {
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		u, err := url.Parse(m[1])
		if err == nil && u.Scheme == "" && u.Path != "" {
			targets = append(targets, u.Path)
		}
	}
	return targets
}

func TestRelativeLinks(t *testing.T) {
	got := relativeLinks("[a](x/y.go#L3) ![b](z.svg) [c](https://example.org/) [d](#here) `f(x)`")
	if want := "x/y.go z.svg"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// TestClaimsNameTests holds that each link of the threat model which says that it leads to a
// test does.
func TestClaimsNameTests(t *testing.T) {
	claims := 0
	files(t, ".md", func(name string, content []byte) {
		if name != "docs/threat-model.md" {
			return
		}
		for _, m := range regexp.MustCompile(`\[([^\]]*)\]\(([^)\s]+)\)`).FindAllStringSubmatch(string(content), -1) {
			if text := m[1]; !strings.Contains(text, "test") && text != "and" && text != "ledger" && text != "rules" {
				continue
			}
			if claims++; !strings.HasSuffix(m[2], "_test.go") {
				t.Errorf("%s: [%s] leads to %s, which is no test", name, m[1], m[2])
			}
		}
	})
	if claims < 40 {
		t.Errorf("only %d claims name a test", claims)
	}
}
