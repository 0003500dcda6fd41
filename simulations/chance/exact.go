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
	frac, exp := math.Frexp(x) // frac in [0.5, 1)
	m := uint64(math.Ldexp(frac, 64))
	var f uint64
	for range log2Bits {
		hi, lo := bits.Mul64(m, m)
		digit := hi >> 63 // 0 when the square is below 1/2: then the exponent goes down
		f = f<<1 | digit
		m = hi<<(1-digit) | lo>>63&(1-digit) // without a branch, which nobody could predict
	}
	// log2(frac) = -1 + f / 2^log2Bits
	log2 := float64(exp-1) + float64(f)/(1<<log2Bits)
	return log2 * ln2
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
