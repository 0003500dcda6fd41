package inspect

import (
	"fmt"
	"strings"
)

// Text is what happened, and what came of it.
func (s *Step) Text() string {
	if s.Note != "" {
		return s.Words + "; " + s.Note
	}
	return s.Words
}

// Where is the peer of a step and its place.
func (p *Path) Where(s *Step) string {
	if s.Peer < 0 {
		if s.Cell >= 0 {
			return fmt.Sprintf("cell %d", s.Cell)
		}
		return "the mesh"
	}
	return fmt.Sprintf("peer %d, %s", s.Peer, p.Regions[s.Peer])
}

// Headline is how far the workload came and when.
func (p *Path) Headline() string {
	words := []string{fmt.Sprintf("arrived at %.6f s", float64(p.ArrivedNs)/1e9)}
	for _, each := range []struct {
		name string
		at   int64
	}{{"acknowledged", p.AckedNs}, {"placed", p.PlacedNs}, {"began", p.BeganNs}, {"ended", p.EndedNs}} {
		if each.at > 0 {
			words = append(words, fmt.Sprintf("%s after %s ms", each.name, sinceText(each.at-p.ArrivedNs)))
		}
	}
	return strings.Join(words, ", ") + "; " + p.Phase
}

// sinceText is a duration of ns in ms.
func sinceText(ns int64) string { return fmt.Sprintf("%.3f", float64(ns)/1e6) }

// Waited says in words what the path begins with when that is not the arrival.
func (p *Path) Waited() string {
	if len(p.Steps) == 0 || p.Steps[0].AtNs == p.ArrivedNs && p.Steps[0].Workload == p.Number {
		return ""
	}
	return "the first step was not caused by the arrival: something older, a timer or a change elsewhere, let it go on"
}
