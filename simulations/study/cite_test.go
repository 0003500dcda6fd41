package study

import (
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

func TestCite(t *testing.T) {
	s := parse(t, "name: \"50% of {a_b} \\\\ & #1\"\n"+text)
	m := &Manifest{Perrin: "v1.2", Hash: strings.Repeat("ab", 32), Seed: 5, Policy: "perrin", Began: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC),
		Replications: []Replication{{Trace: "0123456789abcdef"}, {}}}
	c := Cite("v9", 2030, m, s)
	bib := c.BibTeX()
	for _, want := range []string{"@software{perrin-abababab,", `50\% of \{a\_b\} \textbackslash{} \& \#1`, "year     = {2026}", "version  = {v1.2}", "seed 5, 2 replications, trace 0123456789abcdef"} {
		if !strings.Contains(bib, want) {
			t.Errorf("%s lacks %q", bib, want)
		}
	}
	if open, closed := strings.Count(bib, "{")-strings.Count(bib, `\{`), strings.Count(bib, "}")-strings.Count(bib, `\}`); open != closed {
		t.Errorf("braces do not match: %s", bib)
	}
	played := *m
	played.Fidelity, played.Replications = Stack, []Replication{{}}
	if plain := Cite("v9", 2030, &played, s).Plain(); !strings.Contains(plain, "fidelity stack, seed 5, 1 replication.") || strings.Contains(plain, "trace") {
		t.Errorf("of whole nodes: %s", plain)
	}
	for _, each := range []*Cited{c, Cite("v9", 2030, nil, nil)} {
		root, err := document.Parse("CITATION.cff", []byte(each.CFF()))
		if err != nil || root.Get("cff-version").Text != "1.2.0" || root.Get("authors").Items[0].Get("name").Text == "" || root.Get("version").Text != each.Version {
			t.Errorf("%v in %s", err, each.CFF())
		}
	}
	if plain := Cite("v9", 2030, nil, nil).Plain(); !strings.Contains(plain, "version v9, 2030") || strings.Contains(plain, "Scenario") {
		t.Errorf("got %s", plain)
	}
}
