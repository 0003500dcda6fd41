package pricing

import (
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/perrin-mesh/perrin/workload"
)

func TestDefaultIsValid(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
}

func TestValidateNamesTheField(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"base": func(c *Config) { c.Base = 0 }, "memory": func(c *Config) { c.Memory = -1 },
		"slope": func(c *Config) { c.Slope = 100_001 }, "evidence": func(c *Config) { c.Evidence = -1 },
		"step": func(c *Config) { c.Step = 0 }, "smt": func(c *Config) { c.SMT = 2001 }, "width": func(c *Config) { c.Width = 65 },
		"lend": func(c *Config) { c.Lend = 0 },
	} {
		cfg := Default()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), "pricing."+name+":") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAsks(t *testing.T) {
	evidence, flat := Default(), Default()
	evidence.Evidence = 200
	flat.Width, flat.SMT = 1, 1000
	tests := []struct {
		name string
		cfg  Config
		u    int64
		prev workload.Asks
		want workload.Asks
	}{
		{"idle", Default(), 0, workload.Asks{}, workload.Asks{Core: 1000, Thread: 657, Memory: 60, Spare: 165}},
		{"half", Default(), 500, workload.Asks{}, workload.Asks{Core: 1375, Thread: 903, Memory: 60, Spare: 165}},
		{"full", Default(), 1000, workload.Asks{}, workload.Asks{Core: 4000, Thread: 2625, Memory: 60, Spare: 165}},
		{"beyond full", Default(), 7000, workload.Asks{}, workload.Asks{Core: 4000, Thread: 2625, Memory: 60, Spare: 165}},
		{"attested", evidence, 0, workload.Asks{}, workload.Asks{Core: 1200, Thread: 788, Memory: 60, Spare: 197}},
		{"without SMT", flat, 0, workload.Asks{}, workload.Asks{Core: 1000, Thread: 1000, Memory: 60, Spare: 250}},
		{"a step up", Default(), 1000, workload.Asks{Core: 1000, Thread: 1}, workload.Asks{Core: 1100, Thread: 722, Memory: 60, Spare: 165}},
		{"a step down", Default(), 0, workload.Asks{Core: 2000, Thread: 1}, workload.Asks{Core: 1800, Thread: 1182, Memory: 60, Spare: 165}},
		{"arrived", Default(), 0, workload.Asks{Core: 1050, Thread: 1}, workload.Asks{Core: 1000, Thread: 657, Memory: 60, Spare: 165}},
	}
	for _, tt := range tests {
		if got := Asks(tt.cfg, tt.u, tt.prev); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestSlotRate(t *testing.T) {
	asks := workload.Asks{Core: 1000, Thread: 657, Memory: 60}
	tests := []struct {
		shape workload.Resources
		want  int64
	}{
		{workload.Resources{Class: workload.Core, CPUs: 1, Memory: 256 << 20}, 1015},
		{workload.Resources{Class: workload.Core, CPUs: 4, Memory: 16 << 30}, 4960},
		{workload.Resources{Class: workload.Thread, CPUs: 2, Memory: 1}, 1315},
		{workload.Resources{Class: workload.Thread, CPUs: 1}, 657},
	}
	for _, tt := range tests {
		if got := SlotRate(asks, tt.shape); got != tt.want {
			t.Errorf("%+v: got %d, want %d", tt.shape, got, tt.want)
		}
	}
}

func TestCurve(t *testing.T) {
	total := workload.Capacity{Cores: 4, Threads: 8}
	shape := workload.Resources{Class: workload.Core, CPUs: 1}
	got := Curve(Default(), Asks(Default(), 0, workload.Asks{}), shape, 5, total, total)
	if want := []int64{1000, 1047, 1375, 2266, 4000}; !slices.Equal(got, want) {
		t.Errorf("an idle machine: got %d, want %d", got, want)
	}
	half := workload.Capacity{Cores: 2, Threads: 4}
	got = Curve(Default(), Asks(Default(), 500, workload.Asks{}), shape, 3, total, half)
	if want := []int64{1375, 2266, 4000}; !slices.Equal(got, want) {
		t.Errorf("a machine that is half used goes on where the idle one was: got %d, want %d", got, want)
	}
}

func TestSettle(t *testing.T) {
	tests := []struct{ own, runnerUp, limit, want int64 }{
		{1000, 1100, 0, 1100}, {1000, 2000, 0, 1250}, {1000, 1200, 1150, 1150},
		{1000, -1, 0, 1000}, {1000, -1, 1500, 1000}, {1000, 900, 0, 1000}, {1000, 2000, 800, 1000}, {0, 5, 0, 0},
	}
	for _, tt := range tests {
		if got := Settle(tt.own, tt.runnerUp, tt.limit); got != tt.want {
			t.Errorf("Settle(%d, %d, %d) = %d, want %d", tt.own, tt.runnerUp, tt.limit, got, tt.want)
		}
	}
}

func TestCharge(t *testing.T) {
	tests := []struct{ rate, ms, want int64 }{
		{1000, 1000, 1000}, {1000, 1, 1}, {1, 1, 1}, {1015, 250, 254}, {0, 5, 0}, {5, 0, 0}, {-5, 1000, 0}, {5, -1000, 0},
		{math.MaxInt64, math.MaxInt64, MaxCharge}, {MaxRate, 1_024_000, MaxCharge}, {MaxRate, 1_023_000, MaxCharge - MaxRate},
	}
	for _, tt := range tests {
		if got := Charge(tt.rate, tt.ms); got != tt.want {
			t.Errorf("Charge(%d, %d) = %d, want %d", tt.rate, tt.ms, got, tt.want)
		}
	}
}

// amounts are drawn from the whole range and from around its ends.
func amount() *rapid.Generator[int64] {
	return rapid.OneOf(rapid.Int64(), rapid.Int64Range(-3, 5000), rapid.SampledFrom([]int64{math.MaxInt64, math.MinInt64, MaxRate, MaxCharge, 1 << 32}))
}

func TestMulDivIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := amount().Draw(t, "a"), amount().Draw(t, "b")
		c, limit := rapid.Int64Range(1, math.MaxInt64).Draw(t, "c"), rapid.Int64Range(0, math.MaxInt64).Draw(t, "limit")
		want := new(big.Int).Mul(big.NewInt(max(a, 0)), big.NewInt(max(b, 0)))
		want.Add(want, big.NewInt(c-1)).Div(want, big.NewInt(c))
		if want.Cmp(big.NewInt(limit)) > 0 {
			want.SetInt64(limit)
		}
		if got := mulDiv(a, b, c, limit); got != want.Int64() {
			t.Fatalf("mulDiv(%d, %d, %d, %d) = %d, want %s", a, b, c, limit, got, want)
		}
	})
}

func drawConfig(t *rapid.T) Config {
	width := rapid.Int64Range(1, 64).Draw(t, "width")
	return Config{
		Base: rapid.Int64Range(1, MaxBase).Draw(t, "base"), Memory: rapid.Int64Range(0, MaxBase).Draw(t, "memory"),
		Slope: rapid.Int64Range(0, 100_000).Draw(t, "slope"), Evidence: rapid.Int64Range(0, 10_000).Draw(t, "evidence"),
		Step: rapid.Int64Range(1, 1000).Draw(t, "step"), SMT: rapid.Int64Range(1000, 1000*width).Draw(t, "smt"), Width: width,
		Lend: rapid.Int64Range(1, 1000).Draw(t, "lend"),
	}
}

func drawShape(t *rapid.T) workload.Resources {
	return workload.Resources{
		Class: rapid.SampledFrom([]workload.Class{workload.Core, workload.Thread, workload.Spare}).Draw(t, "class"),
		CPUs:  rapid.Int32Range(1, workload.MaxCPUs).Draw(t, "cpus"), Memory: rapid.Int64Range(workload.MinMemory, workload.MaxMemory).Draw(t, "memory"),
	}
}

// TestAsksRiseWithLoad: more load never asks less, a thread never costs more
// than a core nor less than its share, and all stay in bounds.
func TestAsksRiseWithLoad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := drawConfig(t)
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		u, v := rapid.Int64Range(0, 1000).Draw(t, "u"), rapid.Int64Range(0, 1000).Draw(t, "v")
		low, high := Asks(cfg, min(u, v), workload.Asks{}), Asks(cfg, max(u, v), workload.Asks{})
		if low.Spare != high.Spare || low.Spare > low.Thread || low.Spare < 1 {
			t.Fatalf("idle time asks %d, then %d, a thread %d", low.Spare, high.Spare, low.Thread)
		}
		if low.Core > high.Core || low.Thread > high.Thread {
			t.Fatalf("at %d: %+v, at %d: %+v", min(u, v), low, max(u, v), high)
		}
		if low.Core < cfg.Base || high.Core > MaxRate || high.Thread > high.Core || high.Thread*cfg.Width < high.Core {
			t.Fatalf("out of bounds: %+v, %+v", low, high)
		}
	})
}

// TestAsksMoveByStepsAndArrive: no update moves more than a step, and repeated
// ones reach the ask of the load.
func TestAsksMoveByStepsAndArrive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := drawConfig(t)
		cfg.Step = rapid.Int64Range(20, 1000).Draw(t, "step2")
		u := rapid.Int64Range(0, 1000).Draw(t, "u")
		asks := Asks(cfg, rapid.Int64Range(0, 1000).Draw(t, "before"), workload.Asks{})
		target := Asks(cfg, u, workload.Asks{})
		for range 2000 {
			next := Asks(cfg, u, asks)
			if moved := max(next.Core-asks.Core, asks.Core-next.Core); moved > mulDiv(asks.Core, cfg.Step, 1000, MaxRate) {
				t.Fatalf("from %d to %d in a step of %d permille", asks.Core, next.Core, cfg.Step)
			}
			asks = next
		}
		if asks != target {
			t.Fatalf("stays at %+v, should reach %+v", asks, target)
		}
	})
}

func TestCurveNeverFalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg, shape := drawConfig(t), drawShape(t)
		cores := rapid.Int32Range(1, workload.MaxCPUs).Draw(t, "cores")
		total := workload.Capacity{Cores: cores, Threads: cores * rapid.Int32Range(1, 8).Draw(t, "smt")}
		free := workload.Capacity{Threads: rapid.Int32Range(0, total.Threads).Draw(t, "free")}
		asks := Asks(cfg, rapid.Int64Range(0, 1000).Draw(t, "u"), workload.Asks{})
		n := rapid.IntRange(-1, MaxCurve+1).Draw(t, "n")
		curve := Curve(cfg, asks, shape, n, total, free)
		if len(curve) != min(max(n, 0), MaxCurve) {
			t.Fatalf("%d prices for %d slots", len(curve), n)
		}
		if !slices.IsSorted(curve) {
			t.Fatalf("it falls: %d", curve)
		}
		if n > 0 && (curve[0] != SlotRate(asks, shape) || curve[len(curve)-1] > MaxRate) {
			t.Fatalf("from %d to %d, want it to start at %d", curve[0], curve[len(curve)-1], SlotRate(asks, shape))
		}
	})
}

func TestSettleIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		own, runnerUp, limit := rapid.Int64Range(0, MaxRate).Draw(t, "own"), amount().Draw(t, "runner-up"), amount().Draw(t, "limit")
		got := Settle(own, runnerUp, limit)
		if got < own || got > own+own/4 {
			t.Fatalf("own %d, paid %d", own, got)
		}
		if limit > 0 && own <= limit && got > limit {
			t.Fatalf("limit %d, paid %d", limit, got)
		}
		if runnerUp >= own && got > runnerUp {
			t.Fatalf("runner-up %d, paid %d", runnerUp, got)
		}
	})
}

// TestChargeIsFair: never negative, never falling in rate or time, and the parts
// of a stretch cost at least the whole and at most a micro-credit more each.
func TestChargeIsFair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate, ms, more := amount().Draw(t, "rate"), rapid.Int64Range(0, 1<<40).Draw(t, "ms"), rapid.Int64Range(0, 1<<40).Draw(t, "more")
		part, rest, whole := Charge(rate, ms), Charge(rate, more), Charge(rate, ms+more)
		if part < 0 || whole > MaxCharge || whole < part {
			t.Fatalf("part %d, whole %d", part, whole)
		}
		if whole < MaxCharge && (part+rest < whole || part+rest > whole+1) {
			t.Fatalf("%d and %d make %d", part, rest, whole)
		}
	})
}
