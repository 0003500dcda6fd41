package specfile

import (
	"testing"
	"time"
)

// FuzzUnits reads arbitrary text as a size and as a time. What is taken is never
// a negative size, and a time that is written again means the same.
func FuzzUnits(f *testing.F) {
	for _, seed := range []string{"", "256MiB", "1.5GiB", "2GB", "4096", "9e9", "9223372036854775807", "8388608TiB", ".5K", "1h30m", "250ms", "2d", "-1s", "65536d", "9999d", "1e3s", "∞", "1_000"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := ParseSize(text); err == nil && n < 0 {
			t.Errorf("%q is %d bytes", text, n)
		}
		d, err := ParseDuration(text)
		if err != nil || d < time.Nanosecond && d > -time.Nanosecond {
			return
		}
		if again, err := ParseDuration(d.String()); err != nil || again != d {
			t.Errorf("%q is %s, which is %s, %v", text, d, again, err)
		}
	})
}
