package stats

import (
	"encoding/json"
	"math"
)

// Interval is a mean over replications and how far the true one may be from it.
type Interval struct {
	N      int     `json:"n"`      // replications with a value
	Mean   float64 `json:"mean"`   // null in JSON of none
	Half   float64 `json:"half"`   // half of the confidence interval; null in JSON of fewer than two
	StdDev float64 `json:"stddev"` // of the sample; null in JSON of fewer than two
}

// MarshalJSON writes null for what is not a number.
func (iv Interval) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"n": iv.N, "mean": number(iv.Mean), "half": number(iv.Half), "stddev": number(iv.StdDev)})
}

func number(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// Confidence is of every interval: with it the true mean lies inside.
const Confidence = 0.95

// Of returns the mean of independent values with its confidence interval by
// Student's t distribution. NaNs, of replications that had nothing to measure,
// are left out.
func Of(values []float64) Interval {
	iv := Interval{Mean: math.NaN(), Half: math.NaN(), StdDev: math.NaN()}
	sum := 0.0
	for _, v := range values {
		if !math.IsNaN(v) {
			iv.N++
			sum += v
		}
	}
	if iv.N == 0 {
		return iv
	}
	iv.Mean = sum / float64(iv.N)
	if iv.N < 2 {
		return iv
	}
	sq := 0.0
	for _, v := range values {
		if !math.IsNaN(v) {
			sq += (v - iv.Mean) * (v - iv.Mean)
		}
	}
	iv.StdDev = math.Sqrt(sq / float64(iv.N-1))
	iv.Half = TQuantile((1+Confidence)/2, iv.N-1) * iv.StdDev / math.Sqrt(float64(iv.N))
	return iv
}

// TQuantile returns the value that Student's t with df degrees of freedom is
// below with probability p, from 0.5 to just under 1.
func TQuantile(p float64, df int) float64 {
	low, high := 0.0, 1.0
	for tCDF(high, float64(df)) < p && high < 1e12 {
		high *= 2
	}
	for range 200 {
		mid := (low + high) / 2
		if tCDF(mid, float64(df)) < p {
			low = mid
		} else {
			high = mid
		}
	}
	return (low + high) / 2
}

// tCDF is the distribution of t at x of 0 or more, by the incomplete beta
// function (Abramowitz and Stegun, 26.7.1).
func tCDF(x, df float64) float64 {
	return 1 - incompleteBeta(df/(df+x*x), df/2, 0.5)/2
}

// incompleteBeta is I_x(a, b), by the continued fraction of DLMF 8.17.22,
// evaluated by Lentz's method.
func incompleteBeta(x, a, b float64) float64 {
	switch {
	case x <= 0:
		return 0
	case x >= 1:
		return 1
	case x > (a+1)/(a+b+2):
		return 1 - incompleteBeta(1-x, b, a)
	}
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	front := math.Exp(lab-la-lb+a*math.Log(x)+b*math.Log1p(-x)) / a
	return front / lentz(func(m float64) (even, odd float64) {
		even = m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m))
		odd = -(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1))
		return even, odd
	})
}

// lentz evaluates 1 + d1/(1 + d2/(1 + ...)), where terms(m) are d_2m and d_2m+1.
func lentz(terms func(m float64) (even, odd float64)) float64 {
	const tiny, enough = 1e-300, 1e-15
	nonzero := func(v float64) float64 {
		if math.Abs(v) < tiny {
			return tiny
		}
		return v
	}
	f, c, d := 1.0, 1.0, 0.0
	for m := range 500 {
		even, odd := terms(float64(m))
		for i, term := range []float64{even, odd} {
			if m == 0 && i == 0 {
				continue
			}
			d = 1 / nonzero(1+term*d)
			c = nonzero(1 + term/c)
			f *= c * d
		}
		if math.Abs(c*d-1) < enough {
			break
		}
	}
	return f
}
