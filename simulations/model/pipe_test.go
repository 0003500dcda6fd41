package model

import "testing"

// TestTwoRequestsAreUnderWay: a third entry waits for the first answer, and those
// that come meanwhile go with it.
func TestTwoRequestsAreUnderWay(t *testing.T) {
	var p pipe
	for i, c := range []struct{ now, want int64 }{
		{0, 100}, {10, 110}, // both at once
		{20, 200}, {99, 200}, // wait until 100, and go together
		{105, 210},             // waits until 110
		{300, 400}, {500, 600}, // nothing is under way
	} {
		if got := p.send(c.now, 100); got != c.want {
			t.Errorf("entry %d of %d is answered at %d, want %d", i+1, c.now, got, c.want)
		}
	}
}
