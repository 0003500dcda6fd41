package workload

import (
	"strings"
	"testing"
)

// TestVerifyBy: what cannot be compared is refused by its field.
func TestVerifyBy(t *testing.T) {
	for text, want := range map[string]string{
		"2of3": "", "2of2": "", "5of9": "", "adaptive:2of3": "", "adaptive:3of5": "",
		"adaptive2of3": "want KofN", "adaptive:": "want KofN", "Adaptive:2of3": "want KofN", "adaptive:1of2": "at least 2",
		"": "want KofN", "2": "want KofN", "of": "want KofN", "-1of3": "want KofN", "300of301": "want KofN", "2of3of4": "want KofN",
		"1of2": "at least 2", "3of2": "K at most N", "6of10": "at most 9", "2of4": "more than half",
	} {
		by, err := ParseVerifyBy(text)
		if want == "" && (err != nil || by.String() != text) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, %v, want %q", text, by, err, want)
		}
	}
	for name, c := range map[string]struct {
		edit func(*Spec)
		want string
	}{
		"good":             {func(*Spec) {}, ""},
		"interactive":      {func(s *Spec) { s.Interactive = true }, "verify-by: an interactive"},
		"too many tasks":   {func(s *Spec) { s.Tasks.Count = MaxVerifyTasks + 1 }, "verify-by: want at most 10000 tasks"},
		"too many retries": {func(s *Spec) { s.Retries = MaxVerifyRetries + 1 }, "retries: with verify-by"},
		"no majority":      {func(s *Spec) { s.VerifyBy.Of = 4 }, "verify-by: 2of4"},
	} {
		s := DefaultSpec()
		s.Program, s.VerifyBy = Program{Kind: Process, Host: "true"}, &VerifyBy{Agree: 2, Of: 3}
		c.edit(&s)
		err := s.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
