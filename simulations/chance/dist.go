package chance

import (
	"fmt"
	"math"
)

// Kind is a family of distributions.
type Kind string

// The families. A and B of a Dist are, in this order: Fixed value; Uniform from
// and to; Exponential mean; LogNormal median and sigma (of the logarithm); Pareto
// least and alpha; Weibull scale and shape.
const (
	Fixed       Kind = "fixed"
	Uniform     Kind = "uniform"
	Exponential Kind = "exponential"
	LogNormal   Kind = "lognormal"
	Pareto      Kind = "pareto"
	Weibull     Kind = "weibull"
)

// Dist is a distribution of a quantity in a unit of the caller's (ns, permille,
// micro-credits). Max cuts its tail; 0 does not.
type Dist struct {
	Kind Kind    `json:"kind"`
	A    float64 `json:"a"`
	B    float64 `json:"b,omitempty"`
	Max  int64   `json:"max,omitempty"`
}

// Always is the distribution of one value.
func Always(v int64) Dist { return Dist{Kind: Fixed, A: float64(v)} }

// IsZero reports whether d was never set.
func (d Dist) IsZero() bool { return d == Dist{} }

// most is where every distribution ends: 146 years in ns.
const most = int64(1) << 62

// Draw returns a value, rounded to a whole and at least 0.
func (d Dist) Draw(s *Stream) int64 {
	v := d.draw(s)
	limit := most
	if d.Max > 0 {
		limit = d.Max
	}
	switch {
	case !(v > 0):
		return 0
	case v >= float64(limit):
		return limit
	}
	return int64(math.Round(v))
}

func (d Dist) draw(s *Stream) float64 {
	switch d.Kind {
	case Uniform:
		return d.A + float64((d.B-d.A)*s.Float())
	case Exponential:
		return d.A * s.Exp()
	case LogNormal:
		return d.A * Exp(d.B*s.Normal())
	case Pareto:
		return d.A * Exp(s.Exp()/d.B)
	case Weibull:
		return d.A * Exp(Log(max(s.Exp(), 1e-300))/d.B)
	}
	return d.A
}

// Mean returns the mean without the cut at Max; +Inf for a Pareto tail of alpha
// 1 or less.
func (d Dist) Mean() float64 {
	switch d.Kind {
	case Uniform:
		return (d.A + d.B) / 2
	case LogNormal:
		return d.A * math.Exp(d.B*d.B/2)
	case Pareto:
		if d.B <= 1 {
			return math.Inf(1)
		}
		return d.A * d.B / (d.B - 1)
	case Weibull:
		return d.A * math.Gamma(1+1/d.B)
	}
	return d.A
}

// Validate returns an error that names what is out of range.
func (d Dist) Validate() error {
	bad := func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) || v < 0 || v > float64(most) }
	switch {
	case bad(d.A) || bad(d.B) || d.Max < 0:
		return fmt.Errorf("%s: want numbers of 0 or more", d.Kind)
	case d.Kind == Uniform && d.B < d.A:
		return fmt.Errorf("uniform: from %g to %g: want to at least from", d.A, d.B)
	case d.Kind == LogNormal && d.B > 10:
		return fmt.Errorf("lognormal: sigma %g: want 0 to 10", d.B)
	case (d.Kind == Pareto || d.Kind == Weibull) && (d.B < 0.05 || d.B > 1000):
		return fmt.Errorf("%s: a shape of %g: want 0.05 to 1000", d.Kind, d.B)
	}
	switch d.Kind {
	case Fixed, Uniform, Exponential, LogNormal, Pareto, Weibull:
		return nil
	}
	return fmt.Errorf("there is no distribution %.40q", d.Kind)
}
