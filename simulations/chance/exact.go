package chance

import (
	"math"
	"math/bits"
)

// The Go compiler may fuse x*y + z on some processors, and math.Log is assembly
// on others; what follows gives one result everywhere. Conversions to float64
// forbid fusing (Go specification, floating-point operators).

const (
	ln2      = math.Ln2
	log2Bits = 44 // of a logarithm's fraction that are computed
)

func sqrt(x float64) float64 { return math.Sqrt(x) } // exact by IEEE 754

// Log returns the natural logarithm of x, which must be positive and finite, to
// about 13 digits.
func Log(x float64) float64 {
	raw := math.Float64bits(x)
	exp, m := int(raw>>52)-1022, raw<<11|1<<63 // x is m * 2^(exp-64)
	if exp <= -1022 {                          // too small for a leading bit
		frac, e := math.Frexp(x)
		exp, m = e, uint64(math.Ldexp(frac, 64))
	}
	f, sure := quickLog2(m)
	if !sure {
		f = digits(m, log2Bits)
	}
	log2 := float64(exp-1) + float64(f)/(1<<log2Bits)
	return log2 * ln2
}

// digits returns bits of the fraction of the binary logarithm of m, whose first
// bit is set, by squaring: what it gives for log2Bits is what Log is, to the last
// digit. Each square is rounded down, by which the fraction is short of the
// logarithm by 2^-60 at most.
func digits(m uint64, bitsOf int) (f uint64) {
	for range bitsOf {
		hi, lo := bits.Mul64(m, m)
		digit := hi >> 63 // 0 when the square is below 1/2: then the exponent goes down
		f = f<<1 | digit
		m = hi<<(1-digit) | lo>>63&(1-digit) // without a branch, which nobody could predict
	}
	return f
}

// inverse[i] is 2^64 over 1 + (i+1/2)/256, and known[i] minus the binary logarithm
// of inverse[i]/2^64, in 2^-63.
var inverse, known = makeInverses()

func makeInverses() (inv, minusLog [256]uint64) {
	for i := range inv {
		inv[i], _ = bits.Div64(512, 0, uint64(513+2*i))
		minusLog[i] = 1<<63 - digits(inv[i], 63)
	}
	return inv, minusLog
}

// quickLog2 is digits(m, log2Bits) at a fifth of its cost, or not sure. It multiplies
// m by the inverse of a number near it, and takes the logarithm of what is left, 1 + r
// with r below 2^-8.9, from its series. That is off by less than 2^-58, whether a
// processor fuses or not; nearer than that to where a digit changes it is not sure.
func quickLog2(m uint64) (f uint64, sure bool) {
	const (
		below  = 63 - log2Bits // bits of the fixed point that are cut off
		margin = 64            // of 2^below: 2^-57
	)
	i := m >> 55 & 255
	hi, _ := bits.Mul64(m, inverse[i])
	r := float64(int64(hi-1<<63)) * (1.0 / (1 << 63))
	series := r * (1 + r*(-1.0/2+r*(1.0/3+r*(-1.0/4+r*(1.0/5-r*(1.0/6))))))
	at := known[i] + uint64(int64(series*(1<<63/ln2)))
	rest := at & (1<<below - 1)
	return at >> below, rest >= margin && rest < 1<<below-margin
}

// roots[i] is 2^(2^-(i+1)) with 62 bits behind the point.
var roots = makeRoots()

func makeRoots() (r [52]uint64) {

	x := uint64(1) << 63 // 2
	for i := range r {
		x = root(x)
		r[i] = x
	}
	return r
}

// root is the square root of a number with 62 bits behind the point, rounded down.
func root(x uint64) uint64 {
	hi, lo := x>>2, x<<62 // x * 2^62: the root of it has 62 bits behind the point
	guess := uint64(0)
	for bit := uint64(1) << 63; bit > 0; bit >>= 1 {
		try := guess | bit
		h, l := bits.Mul64(try, try)
		if h < hi || h == hi && l <= lo {
			guess = try
		}
	}
	return guess
}

// Exp returns e to the power of x, to about 13 digits; 0 or +Inf beyond what a
// float64 holds.
func Exp(x float64) float64 {
	log2 := x / ln2
	whole := math.Floor(log2)
	if whole < -1000 || whole > 1000 {
		if whole > 0 {
			return math.Inf(1)
		}
		return 0
	}
	f := uint64(math.Ldexp(min(log2-whole, 1-unit), len(roots)))
	m := uint64(1) << 62
	for i := range roots {
		by := uint64(1) << 62 // times 1, exactly
		if f>>(len(roots)-1-i)&1 != 0 {
			by = roots[i]
		}
		hi, lo := bits.Mul64(m, by)
		m = hi<<2 | lo>>62
	}
	return math.Ldexp(float64(m), int(whole)-62)
}
