package stats

import (
	"math"
	"slices"
)

// Paired compares two treatments of the same worlds.
type Paired struct {
	Difference Interval // of the second less the first
	D          float64  // the mean difference in standard deviations of the differences (Cohen's d_z); NaN without a spread
	P          float64  // two-sided, of Student's t for pairs, or of the sign test when all differ alike; NaN of fewer than two pairs
}

// Pair compares values pair by pair; pairs with a NaN are left out.
func Pair(a, b []float64) Paired {
	var diff []float64
	for i := range min(len(a), len(b)) {
		diff = append(diff, b[i]-a[i])
	}
	p := Paired{Difference: Of(diff), D: math.NaN(), P: math.NaN()}
	iv := p.Difference
	switch {
	case iv.N < 2:
	case iv.StdDev == 0 && iv.Mean == 0:
		p.P = 1
	case iv.StdDev <= 1e-12*math.Abs(iv.Mean):
		// Counts may differ by the same in every pair. Of t that would be certainty, of
		// two pairs even; that all have one sign happens by chance in one of 2^(n-1).
		p.P = math.Pow(2, float64(1-iv.N))
	default:
		p.D = iv.Mean / iv.StdDev
		p.P = tails(p.D*math.Sqrt(float64(iv.N)), float64(iv.N-1))
	}
	return p
}

// tails is how often Student's t is as far from 0 as x by chance, precise also
// where 1 less its distribution is not.
func tails(x, df float64) float64 { return incompleteBeta(df/(df+x*x), df/2, 0.5) }

// Holm corrects p-values for there being several (Holm, Scandinavian Journal of
// Statistics 6, 1979). NaNs stay and count for nothing.
func Holm(p []float64) []float64 {
	out := slices.Clone(p)
	var order []int
	for i, v := range p {
		if !math.IsNaN(v) {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case p[a] < p[b]:
			return -1
		case p[a] > p[b]:
			return 1
		}
		return 0
	})
	most := 0.0
	for k, i := range order {
		most = max(most, min(1, p[i]*float64(len(order)-k)))
		out[i] = most
	}
	return out
}
