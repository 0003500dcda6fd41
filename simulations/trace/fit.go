package trace

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/perrin-mesh/perrin/simulations/chance"
)

// Bounds of a fit.
const (
	fitSample = 2000 // values of which the distance and its bootstrap are taken
	bootstrap = 199  // samples drawn from what was fitted
)

// Fit is a distribution of a family, as likely as possible for some values.
type Fit struct {
	Family   string  `json:"family"`
	Text     string  `json:"text"`     // as a scenario writes it, of values in s
	Distance float64 `json:"distance"` // of Kolmogorov and Smirnov: the greatest between the two distributions
	P        float64 `json:"p"`        // share of samples of the fitted distribution that are at least as far from a fit of their own
	AIC      float64 `json:"aic"`      // Akaike's criterion; less is better
	N        int     `json:"n"`        // values that the distance is of

	dist chance.Dist
	cdf  func(float64) float64
}

// families are what a scenario can draw from. Each is fitted by maximum likelihood.
var families = []func([]float64) (Fit, error){fitExponential, fitLogNormal, fitWeibull, fitPareto}

// Fits fits every family to values in s, of which those that are not above 0 count as
// a microsecond, the best by Akaike's criterion first. How good each is: the distance
// of Kolmogorov and Smirnov, and its p-value by a parametric bootstrap, since the
// tables do not hold for parameters that come from the same values (Stute, Manteiga
// and Quindimil, 1993). More than 2,000 values are sampled for it, as a test of very
// many values refuses everything.
func Fits(values []float64, seed uint64) ([]Fit, error) {
	if len(values) < 10 {
		return nil, fmt.Errorf("fit: want 10 values or more, there are %d", len(values))
	}
	s := chance.Seed(seed).Stream(0, forFit)
	some := make([]float64, len(values))
	for i, v := range values {
		some[i] = max(v, 1e-6)
	}
	if len(some) > fitSample {
		for i := range fitSample {
			j := i + s.IntN(len(some)-i)
			some[i], some[j] = some[j], some[i]
		}
		some = some[:fitSample]
	}
	slices.Sort(some)
	var out []Fit
	for _, family := range families {
		f, err := family(some)
		if err != nil {
			continue // such as values that are all the same
		}
		f.N, f.Distance = len(some), distance(some, f.cdf)
		f.P = f.pValue(family, &s)
		out = append(out, f)
	}
	if len(out) == 0 {
		return nil, errors.New("fit: the values are all the same: write that figure")
	}
	slices.SortStableFunc(out, func(a, b Fit) int { return compare(a.AIC, b.AIC) })
	return out, nil
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// pValue draws samples of a fit and fits each again.
func (f *Fit) pValue(family func([]float64) (Fit, error), s *chance.Stream) float64 {
	sample := make([]float64, f.N)
	far := 1
	for range bootstrap {
		for i := range sample {
			sample[i] = max(float64(f.dist.Draw(s))/1e9, 1e-9)
		}
		slices.Sort(sample)
		if again, err := family(sample); err == nil && distance(sample, again.cdf) >= f.Distance {
			far++
		}
	}
	return float64(far) / (bootstrap + 1)
}

// distance is that of Kolmogorov and Smirnov; values are sorted.
func distance(values []float64, cdf func(float64) float64) (d float64) {
	n := float64(len(values))
	for i, v := range values {
		p := cdf(v)
		d = max(d, p-float64(i)/n, float64(i+1)/n-p)
	}
	return d
}

func sums(values []float64) (mean, meanLog float64) {
	for _, v := range values {
		mean += v
		meanLog += math.Log(v)
	}
	return mean / float64(len(values)), meanLog / float64(len(values))
}

const noLimit = math.MaxInt64 / 4 // ns: nothing is cut

func fitExponential(values []float64) (Fit, error) {
	mean, _ := sums(values)
	return Fit{
		Family: "exponential", Text: fmt.Sprintf("{exponential: %s}", written(mean)), AIC: 2 + 2*float64(len(values))*(math.Log(mean)+1),
		dist: chance.Dist{Kind: chance.Exponential, A: mean * 1e9, Max: noLimit}, cdf: func(v float64) float64 { return -math.Expm1(-v / mean) },
	}, nil
}

func fitLogNormal(values []float64) (Fit, error) {
	_, mu := sums(values)
	var squares float64
	for _, v := range values {
		squares += (math.Log(v) - mu) * (math.Log(v) - mu)
	}
	n := float64(len(values))
	sigma := math.Sqrt(squares / n)
	if sigma < 1e-9 {
		return Fit{}, errors.New("no spread")
	}
	median := math.Exp(mu)
	return Fit{
		Family: "lognormal", Text: fmt.Sprintf("{lognormal: {median: %s, sigma: %.4g}}", written(median), sigma),
		AIC:  4 + 2*n*(math.Log(sigma)+mu+math.Log(2*math.Pi)/2+0.5),
		dist: chance.Dist{Kind: chance.LogNormal, A: median * 1e9, B: sigma, Max: noLimit},
		cdf:  func(v float64) float64 { return math.Erfc((mu-math.Log(v))/sigma/math.Sqrt2) / 2 },
	}, nil
}

// fitWeibull solves 1/k = sum(v^k log v)/sum(v^k) - mean(log v) by halving.
func fitWeibull(values []float64) (Fit, error) {
	_, meanLog := sums(values)
	top := values[len(values)-1]
	off := func(k float64) float64 {
		var a, b float64
		for _, v := range values {
			p := math.Pow(v/top, k)
			a, b = a+p*math.Log(v), b+p
		}
		return a/b - meanLog - 1/k
	}
	low, high := 0.01, 100.0
	if off(low) > 0 || off(high) < 0 {
		return Fit{}, errors.New("no shape from 0.01 to 100")
	}
	for range 50 {
		if k := math.Sqrt(low * high); off(k) < 0 {
			low = k
		} else {
			high = k
		}
	}
	k, n := math.Sqrt(low*high), float64(len(values))
	var b float64
	for _, v := range values {
		b += math.Pow(v/top, k)
	}
	scale := top * math.Pow(b/n, 1/k)
	return Fit{
		Family: "weibull", Text: fmt.Sprintf("{weibull: {scale: %s, shape: %.4g}}", written(scale), k),
		AIC:  4 - 2*n*(math.Log(k)-k*math.Log(scale)+(k-1)*meanLog-1),
		dist: chance.Dist{Kind: chance.Weibull, A: scale * 1e9, B: k, Max: noLimit},
		cdf:  func(v float64) float64 { return -math.Expm1(-math.Pow(v/scale, k)) },
	}, nil
}

func fitPareto(values []float64) (Fit, error) {
	_, meanLog := sums(values)
	least, n := values[0], float64(len(values))
	if meanLog-math.Log(least) < 1e-9 {
		return Fit{}, errors.New("no spread")
	}
	alpha := 1 / (meanLog - math.Log(least))
	return Fit{
		Family: "pareto", Text: fmt.Sprintf("{pareto: {least: %s, alpha: %.4g}}", written(least), alpha),
		AIC:  4 - 2*n*(math.Log(alpha)+alpha*math.Log(least)-(alpha+1)*meanLog),
		dist: chance.Dist{Kind: chance.Pareto, A: least * 1e9, B: alpha, Max: noLimit},
		cdf:  func(v float64) float64 { return -math.Expm1(alpha * math.Log(least/max(v, least))) },
	}, nil
}

// written is a duration of seconds in whole us.
func written(s float64) string { return short(int64(math.Round(min(s, 1e9)*1e6)) * 1e3) }
