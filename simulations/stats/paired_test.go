package stats

import (
	"math"
	"testing"
)

// TestPair compares with Student's own data: ten patients, two drugs (Biometrika
// 6, 1908): t is 4.0621 with 9 degrees of freedom, p 0.002833.
func TestPair(t *testing.T) {
	a := []float64{0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0, 2}
	b := []float64{1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4}
	p := Pair(a, b)
	if math.Abs(p.Difference.Mean-1.58) > 1e-9 || math.Abs(p.P-0.002833) > 1e-6 || math.Abs(p.D*math.Sqrt(10)-4.0621) > 1e-4 {
		t.Errorf("got %+v", p)
	}
	if same := Pair(a, a); same.P != 1 || same.Difference.Mean != 0 {
		t.Errorf("the same twice: %+v", same)
	}
	if one := Pair(a[:1], b[:1]); !math.IsNaN(one.P) {
		t.Errorf("one pair: %+v", one)
	}
}

func TestHolm(t *testing.T) {
	got := Holm([]float64{0.01, 0.04, math.NaN(), 0.03, 0.005})
	for i, want := range []float64{0.03, 0.06, math.NaN(), 0.06, 0.02} {
		if math.Abs(got[i]-want) > 1e-12 || math.IsNaN(got[i]) != math.IsNaN(want) {
			t.Errorf("number %d is %g, want %g", i, got[i], want)
		}
	}
}
