package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// line is one figure beside its limit and its rival.
type line struct {
	Scenario string  `json:"scenario"`
	What     string  `json:"what"`
	Unit     string  `json:"unit"`
	Value    float64 `json:"value"`           // what is held against the limit
	P50      float64 `json:"p50,omitempty"`   // of a distribution
	P99      float64 `json:"p99,omitempty"`   // of a distribution
	Count    int     `json:"count,omitempty"` // values of the distribution
	Limit    float64 `json:"limit,omitempty"` // 0 is none
	Least    bool    `json:"least,omitempty"` // the limit is a lower bound
	Ratio    float64 `json:"ratio,omitempty"` // how many times better than the limit
	Pass     *bool   `json:"pass,omitempty"`
	Rival    string  `json:"rival,omitempty"`
	// RivalValue is the rival's own figure, in the same unit.
	RivalValue float64 `json:"rival_value,omitempty"`
	RivalRatio float64 `json:"rival_ratio,omitempty"` // how many times better than the rival
	Note       string  `json:"note,omitempty"`
}

// atMost is a line whose figure must not be above its limit.
func atMost(what, unit string, value, limit float64) line {
	return line{What: what, Unit: unit, Value: value, Limit: limit}
}

// atLeast is a line whose figure must not be below its limit.
func atLeast(what, unit string, value, limit float64) line {
	return line{What: what, Unit: unit, Value: value, Limit: limit, Least: true}
}

// against sets a rival that was measured in the same run; 0 is one that could not be.
func (l line) against(rival string, value float64) line {
	l.Rival, l.RivalValue = rival, value
	return l
}

func (l line) noting(format string, args ...any) line {
	l.Note = fmt.Sprintf(format, args...)
	return l
}

// judge fills in ratios and the verdict.
func (l *line) judge() {
	better := func(than float64) float64 {
		switch {
		case than <= 0:
			return 0
		case l.Least:
			return l.Value / than
		case l.Value <= 0:
			return 0
		}
		return than / l.Value
	}
	l.Ratio, l.RivalRatio = better(l.Limit), better(l.RivalValue)
	if l.Limit > 0 {
		pass := l.Value <= l.Limit
		if l.Least {
			pass = l.Value >= l.Limit
		}
		l.Pass = &pass
	}
}

// report prints lines as they come and keeps them.
type report struct {
	w        io.Writer
	scenario string
	began    time.Time
	Machine  machine  `json:"machine"`
	Noise    []noise  `json:"noise"`
	Lines    []line   `json:"lines"`
	Notes    []string `json:"notes,omitempty"`
}

func newReport(w io.Writer) *report { return &report{w: w, began: time.Now()} }

const layout = "%-80s %12s %14s %7s %-4s  %s\n"

func (r *report) header(m machine) {
	r.Machine = m
	fmt.Fprintln(r.w, m)
	fmt.Fprintf(r.w, "\n"+layout, "", "figure", "limit", "x limit", "", "rival")
}

// begin starts a scenario and prints how quiet the machine is. What it returns
// ends the scenario and prints what others did meanwhile.
func (r *report) begin(scenario string, n noise) (end func()) {
	r.scenario = scenario
	fmt.Fprintf(r.w, "-- %s: %s\n", scenario, n)
	began, before := time.Now(), accountNow()
	return func() {
		n.Scenario, n.Took, n.Others = scenario, time.Since(began).Seconds(), before.others(accountNow())
		r.Noise = append(r.Noise, n)
		fmt.Fprintf(r.w, "      %s took %.0f s, in which other work used %.0f %% of the CPUs\n", scenario, n.Took, n.Others)
	}
}

func (r *report) add(l line) {
	l.Scenario = r.scenario
	l.judge()
	r.Lines = append(r.Lines, l)
	limit, ratio, verdict, rival := "", "", "", ""
	if l.Limit > 0 {
		sign := "<="
		if l.Least {
			sign = ">="
		}
		limit, ratio = fmt.Sprintf("%s %s", sign, amount(l.Limit, l.Unit)), fmt.Sprintf("%.2f", l.Ratio)
		verdict = "MISS"
		if *l.Pass {
			verdict = "ok"
		}
	}
	if l.Rival != "" {
		rival = l.Rival + ": not measured"
	}
	if l.RivalValue > 0 {
		rival = fmt.Sprintf("%s: %s (we: %.2fx)", l.Rival, amount(l.RivalValue, l.Unit), l.RivalRatio)
	}
	fmt.Fprintf(r.w, layout, l.What, amount(l.Value, l.Unit), limit, ratio, verdict, rival)
	if l.Note != "" {
		fmt.Fprintf(r.w, "      %s\n", l.Note)
	}
}

// spread adds a distribution: its p50 and its p99, each beside its limit (0: none).
func (r *report) spread(what string, ms []float64, limit50, limit99 float64) {
	p50, p99 := percentile(ms, 50), percentile(ms, 99)
	for _, l := range []line{atMost(what+", p50", "ms", p50, limit50), atMost(what+", p99", "ms", p99, limit99)} {
		l.P50, l.P99, l.Count = p50, p99, len(ms)
		r.add(l)
	}
}

// cpu adds the CPU time of one task or workload in ms, which other work on the
// machine hardly changes, and the rate that it allows.
func (r *report) cpu(what string, ms float64) {
	r.add(atMost(what, "ms", ms, 0).noting("with which %d CPUs can do %.0f/s at best", r.Machine.CPUs, float64(r.Machine.CPUs)*1000/ms))
}

func (r *report) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.Notes = append(r.Notes, r.scenario+": "+text)
	fmt.Fprintf(r.w, "      %s\n", text)
}

// summary prints what was missed and returns how much that is.
func (r *report) summary() (missed int) {
	held := 0
	for _, l := range r.Lines {
		if l.Pass != nil {
			held++
			if !*l.Pass {
				missed++
			}
		}
	}
	fmt.Fprintf(r.w, "\n%d of %d limits held, in %s\n", held-missed, held, time.Since(r.began).Round(time.Second))
	return missed
}

func (r *report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// amount is a figure with three digits or so, and its unit.
func amount(v float64, unit string) string {
	text := fmt.Sprintf("%.0f", v)
	switch {
	case v < 10:
		text = fmt.Sprintf("%.2f", v)
	case v < 100:
		text = fmt.Sprintf("%.1f", v)
	}
	return strings.TrimSpace(text + " " + unit)
}

// percentile returns the nearest rank of the values, which it sorts; 0 of none.
func percentile(values []float64, p int) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	rank := (p*len(values) + 99) / 100
	return values[max(rank, 1)-1]
}

// millis is a duration in ms.
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
