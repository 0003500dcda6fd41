package tsc

import (
	"runtime"
	"testing"
	"time"
)

// TestFrequency: two measurements agree to a hundredth, and a second has passed
// when so many were counted.
func TestFrequency(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		if KHz() != 0 {
			t.Error("a frequency of no counter")
		}
		return
	}
	began, from := pair()
	khz := KHz()
	ended, to := pair()
	counted := time.Duration(float64(to-from) / float64(khz) * 1e6)
	if took := ended.Sub(began); khz <= 0 || (took-counted).Abs() > took/100 {
		t.Errorf("at %d kHz %s were counted in %s", khz, counted, took)
	}
}
