package stats

import (
	"encoding/json"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestHistogramAgainstSorting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h Histogram
		values := rapid.SliceOfN(rapid.Int64Range(0, 1<<50), 1, 300).Draw(t, "values")
		for _, v := range values {
			h.Add(v)
		}
		slices.Sort(values)
		for _, q := range []float64{0, 0.5, 0.99, 1} {
			want := float64(values[max(int(math.Ceil(q*float64(len(values)))), 1)-1])
			got := h.Quantile(q)
			if got < want || got > want*1.008 {
				t.Fatalf("quantile %g is %g, exactly %g", q, got, want)
			}
		}
	})
}

func TestEveryBucketHoldsItsValues(t *testing.T) {
	for v := int64(0); v < 100_000; v += 1 + v/1000 {
		b := bucketOf(v)
		if top := topOf(b); v > top || b > 0 && v <= topOf(b-1) {
			t.Fatalf("%d is in bucket %d, which ends at %d", v, b, top)
		}
	}
	if b := bucketOf(math.MaxInt64); topOf(b) != math.MaxInt64 || b > 1<<13 {
		t.Errorf("the largest value is in bucket %d, which ends at %d", b, topOf(b))
	}
	var h Histogram
	h.Add(-5)
	if h.Quantile(1) != 0 || h.N() != 1 || h.Mean() != 0 {
		t.Error("a negative value is not 0")
	}
	if !math.IsNaN(new(Histogram).Quantile(0.5)) || !math.IsNaN(new(Histogram).Mean()) {
		t.Error("nothing has a quantile")
	}
}

// TestTQuantile compares with the tables (NIST/SEMATECH, 1.3.6.7.2).
func TestTQuantile(t *testing.T) {
	for _, c := range []struct {
		p    float64
		df   int
		want float64
	}{
		{0.975, 1, 12.706}, {0.975, 2, 4.303}, {0.975, 4, 2.776}, {0.975, 9, 2.262}, {0.975, 29, 2.045}, {0.975, 100, 1.984},
		{0.95, 5, 2.015}, {0.995, 10, 3.169}, {0.975, 100_000, 1.960}, {0.5, 3, 0},
	} {
		if got := TQuantile(c.p, c.df); math.Abs(got-c.want) > 6e-4 {
			t.Errorf("t of %g with %d degrees is %.4f, want %.3f", c.p, c.df, got, c.want)
		}
	}
}

func TestInterval(t *testing.T) {
	iv := Of([]float64{10, 12, math.NaN(), 14})
	if iv.N != 3 || iv.Mean != 12 || iv.StdDev != 2 || math.Abs(iv.Half-4.303*2/math.Sqrt(3)) > 1e-3 {
		t.Errorf("got %+v", iv)
	}
	if one := Of([]float64{3}); one.Mean != 3 || !math.IsNaN(one.Half) {
		t.Errorf("one value has the interval %+v", one)
	}
	if text, err := json.Marshal(Of([]float64{3})); err != nil || string(text) != `{"half":null,"mean":3,"n":1,"stddev":null}` {
		t.Errorf("in JSON %s, %v", text, err)
	}
	if none := Of(nil); none.N != 0 || !math.IsNaN(none.Mean) {
		t.Errorf("no value has the interval %+v", none)
	}
}

// TestCoverage draws many small samples of a known mean: 95 % of their intervals
// must hold it.
func TestCoverage(t *testing.T) {
	inside, state := 0, uint64(1)
	const samples = 4000
	for range samples {
		values := make([]float64, 5)
		for i := range values {
			for range 12 { // the sum of 12 uniform numbers is near enough to a normal one
				state = state*6364136223846793005 + 1442695040888963407
				values[i] += float64(state>>11) / (1 << 53)
			}
		}
		if iv := Of(values); math.Abs(iv.Mean-6) <= iv.Half {
			inside++
		}
	}
	if share := float64(inside) / samples; math.Abs(share-Confidence) > 0.015 {
		t.Errorf("%.3f of the intervals hold the mean, want %.2f", share, Confidence)
	}
}
