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

// TestPairsThatDifferAlike wants what the sign test says: two pairs prove nothing.
func TestPairsThatDifferAlike(t *testing.T) {
	for n, want := range map[int]float64{2: 0.5, 5: 0.0625, 10: 1.0 / 512} {
		a, b := make([]float64, n), make([]float64, n)
		for i := range b {
			a[i] = float64(i) / 10
			b[i] = a[i] + 0.1
		}
		if p := Pair(a, b); math.Abs(p.P-want) > 1e-12 || !math.IsNaN(p.D) {
			t.Errorf("%d pairs that differ by 0.1 each: %+v, want p %g", n, p, want)
		}
	}
}

// TestTails compares with the tables and, far out, with the series of the tail of
// t with 2 degrees of freedom, 1 - x/sqrt(2+x^2), which is 1/x^2 there.
func TestTails(t *testing.T) {
	for _, c := range []struct{ x, df, want float64 }{{2.776445, 4, 0.05}, {-2.262157, 9, 0.05}, {0, 5, 1}, {1e9, 2, 1e-18}} {
		if got := tails(c.x, c.df); math.Abs(got-c.want) > 1e-6*c.want {
			t.Errorf("t of %g with %g degrees: %g, want %g", c.x, c.df, got, c.want)
		}
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
