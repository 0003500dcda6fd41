package terminal

import (
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzClean makes arbitrary text safe for one line of a terminal.
func FuzzClean(f *testing.F) {
	for _, seed := range []string{"", "plain", "\x1b[2J", "a\nb\tc\x7f\u0085", "a\u202eb\u2066c\u200f", "\u2028\u2029", "\xff\xfe", "ééé"} {
		f.Add(seed, uint8(3))
	}
	f.Fuzz(func(t *testing.T, text string, limit uint8) {
		most := int(limit) + 1
		out := Clean(text, most)
		if n := utf8.RuneCountInString(out); n > most {
			t.Errorf("%d characters, at most %d", n, most)
		}
		for _, r := range out {
			if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == 0x2028 || r == 0x2029 {
				t.Errorf("%q keeps %U", text, r)
			}
		}
	})
}
