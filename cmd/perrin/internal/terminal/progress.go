package terminal

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// Progress shows how far something counted has come: one line that is redrawn
// on a terminal, and otherwise a line at most every PlainEvery or each tenth of
// the way. It has no clock of its own, and is for one goroutine.
type Progress struct {
	out     io.Writer
	tty     bool
	width   int
	what    string
	start   time.Time
	drawn   time.Time
	tenth   int
	began   bool
	visible bool
}

// How often a line is redrawn on a terminal, and printed elsewhere.
const (
	RedrawEvery = 100 * time.Millisecond
	PlainEvery  = 5 * time.Second
)

// NewProgress counts what ("tasks") from now on. width is the columns of the
// terminal.
func NewProgress(out io.Writer, tty bool, width int, what string, now time.Time) *Progress {
	return &Progress{out: out, tty: tty, width: width, what: what, start: now}
}

// State is how far it has come.
type State struct {
	Done   int // with failed ones
	Failed int
	Total  int
	Note   string // such as on how many nodes
}

// Update shows s when it is time to.
func (p *Progress) Update(s State, now time.Time) {
	if p.tty {
		if p.began && now.Sub(p.drawn) < RedrawEvery && s.Done < s.Total {
			return
		}
		p.began, p.drawn, p.visible = true, now, true
		fmt.Fprint(p.out, "\r"+p.bar(s, now)+"\x1b[K")
		return
	}
	tenth := 0
	if s.Total > 0 {
		tenth = 10 * s.Done / s.Total
	}
	if p.began && tenth == p.tenth && (now.Sub(p.drawn) < PlainEvery || s.Done == s.Total) {
		return
	}
	p.began, p.drawn, p.tenth = true, now, tenth
	fmt.Fprintln(p.out, p.plain(s, now))
}

// Clear removes the line from a terminal, so that something else can be printed.
func (p *Progress) Clear() {
	if p.visible {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.visible, p.began = false, false
	}
}

// Finish leaves the line where it is.
func (p *Progress) Finish() {
	if p.visible {
		fmt.Fprintln(p.out)
		p.visible = false
	}
}

// bar is one line of at most the terminal's width.
func (p *Progress) bar(s State, now time.Time) string {
	text := " " + p.figures(s, now)
	room := min(30, p.width-1-utf8.RuneCountInString(text)-2)
	if room >= 5 {
		full := 0
		if s.Total > 0 {
			full = room * s.Done / s.Total
		}
		text = "[" + strings.Repeat("█", full) + strings.Repeat("░", room-full) + "]" + text
	}
	if runes := []rune(text); len(runes) >= p.width {
		text = string(runes[:max(0, p.width-1)])
	}
	return text
}

func (p *Progress) plain(s State, now time.Time) string { return p.figures(s, now) }

func (p *Progress) figures(s State, now time.Time) string {
	percent := 0
	if s.Total > 0 {
		percent = 100 * s.Done / s.Total
	}
	parts := []string{fmt.Sprintf("%s/%s %s (%d%%)", Count(int64(s.Done)), Count(int64(s.Total)), p.what, percent)}
	if s.Failed > 0 {
		parts = append(parts, Count(int64(s.Failed))+" failed")
	}
	if s.Note != "" {
		parts = append(parts, s.Note)
	}
	spent := now.Sub(p.start)
	switch {
	case s.Done >= s.Total:
		parts = append(parts, Duration(spent))
	case s.Done > 0:
		left := time.Duration(float64(spent) / float64(s.Done) * float64(s.Total-s.Done))
		parts = append(parts, leftText(left))
	}
	return strings.Join(parts, ", ")
}

func leftText(left time.Duration) string {
	if left < time.Second {
		return "under 1s left"
	}
	return "about " + Duration(left.Round(time.Second)) + " left"
}
