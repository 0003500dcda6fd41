package study

import (
	"fmt"
	"strings"
	"time"

	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/workload"
)

// Cited is what a reader needs to find a simulation, or the simulator, again.
type Cited struct {
	Title    string `json:"title"`
	Author   string `json:"author"`
	Version  string `json:"version"`
	URL      string `json:"url"`
	Licence  string `json:"licence"`
	Year     int    `json:"year"`
	Scenario string `json:"scenario,omitempty"` // the rest is of a run alone
	Hash     string `json:"scenario_sha256,omitempty"`
	File     string `json:"file_sha256,omitempty"`
	Policy   string `json:"policy,omitempty"`
	Seed     uint64 `json:"seed,omitempty"`
	Runs     int    `json:"replications,omitempty"`
	Fidelity string `json:"fidelity,omitempty"` // Model or Stack
	Trace    string `json:"trace,omitempty"`    // of the first replication; whole nodes have none
	Date     string `json:"date,omitempty"`
}

// Cite names the simulator, and with a manifest the run and the version that made
// it. year is for the simulator alone.
func Cite(version string, year int, m *Manifest, s *scenario.Scenario) *Cited {
	c := &Cited{
		Title: "Perrin: a peer-to-peer compute mesh and its simulator", Author: "The Perrin authors", Version: version,
		URL: "https://github.com/perrin-mesh/perrin", Licence: "Apache-2.0", Year: year,
	}
	if m != nil {
		c.Version, c.Year, c.Date = m.Perrin, m.Began.Year(), m.Began.Format(time.DateOnly)
		c.Scenario, c.Hash, c.File, c.Policy, c.Seed = s.Name, m.Hash, m.File, m.Policy, m.Seed
		c.Runs, c.Fidelity, c.Trace = len(m.Replications), m.HowRun(), m.Replications[0].Trace
	}
	return c
}

// run is what a run adds, in one sentence.
func (c *Cited) run() string {
	if c.Hash == "" {
		return ""
	}
	text := fmt.Sprintf("Scenario %s, SHA-256 %s, policy %s, fidelity %s, seed %d, %s", c.Scenario, c.Hash, c.Policy, c.Fidelity, c.Seed, workload.Counted(c.Runs, "replication"))
	if c.Trace != "" {
		text += ", trace " + c.Trace
	}
	return text
}

// Plain is a line for a list of references.
func (c *Cited) Plain() string {
	text := fmt.Sprintf("%s. %s, version %s, %d. %s", c.Author, c.Title, c.Version, c.Year, c.URL)
	if run := c.run(); run != "" {
		text += ". " + run
	}
	return text + ".\n"
}

// BibTeX is an entry for BibTeX and biblatex.
func (c *Cited) BibTeX() string {
	var b strings.Builder
	key := "perrin"
	if c.Hash != "" {
		key += "-" + c.Hash[:8]
	}
	fmt.Fprintf(&b, "@software{%s,\n", key)
	field := func(name, value string) { fmt.Fprintf(&b, "  %-8s = {%s},\n", name, value) }
	field("author", "{"+texEscape(c.Author)+"}")
	field("title", "{Perrin}"+strings.TrimPrefix(texEscape(c.Title), "Perrin"))
	field("version", texEscape(c.Version))
	field("year", fmt.Sprint(c.Year))
	field("url", c.URL)
	field("license", c.Licence)
	if run := c.run(); run != "" {
		field("date", c.Date)
		field("note", texEscape(run))
	}
	b.WriteString("}\n")
	return b.String()
}

var tex = strings.NewReplacer(`\`, `\textbackslash{}`, "{", `\{`, "}", `\}`, "&", `\&`, "%", `\%`, "$", `\$`, "#", `\#`, "_", `\_`, "~", `\textasciitilde{}`, "^", `\textasciicircum{}`)

// texEscape is a text as TeX takes it, in one line.
func texEscape(text string) string { return tex.Replace(strings.Join(strings.Fields(text), " ")) }

// CFF is a CITATION.cff of format 1.2.0.
func (c *Cited) CFF() string {
	var b strings.Builder
	b.WriteString("cff-version: 1.2.0\nmessage: If you use this software, please cite it as below.\ntype: software\n")
	field := func(name, value string) { fmt.Fprintf(&b, "%s: %q\n", name, value) }
	field("title", c.Title)
	fmt.Fprintf(&b, "authors:\n  - name: %q\n", c.Author)
	field("version", c.Version)
	field("repository-code", c.URL)
	field("license", c.Licence)
	if run := c.run(); run != "" {
		field("date-released", c.Date)
		fmt.Fprintf(&b, "identifiers:\n  - {type: other, value: %q, description: %q}\n", "sha256:"+c.Hash, run)
	}
	return b.String()
}
