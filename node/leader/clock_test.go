package leader

import "testing"

// TestCellTimeGoesOn sets a leader's clock an hour either way.
func TestCellTimeGoesOn(t *testing.T) {
	const hour = 3_600_000
	var c cellTime
	c.begin(1_000_000, 0)
	for i, step := range []struct{ wall, mono, want int64 }{
		{1_000_500, 500, 1_000_500},                            // as the clock says
		{1_000_501 + hour, 501, 1_000_501 + hour},              // set forward: followed
		{1_000_502, 502, 1_000_502 + hour},                     // set back: it goes on at half speed,
		{1_000_503, 503, 1_000_502 + hour},                     // however often it is read,
		{1_000_504, 504, 1_000_503 + hour},                     //
		{1_001_503, 1_503, 1_001_002 + hour},                   //
		{1_000_503 + hour, 1_503 + hour, 1_001_002 + hour*3/2}, // and no faster later
		{1_000_503 + 3*hour, 1_503 + 3*hour, 1_000_503 + 3*hour},
	} {
		if got := c.now(step.wall, step.mono); got != step.want {
			t.Errorf("step %d: %d, want %d", i, got, step.want)
		}
	}
	c.begin(9*hour, 9*hour)
	if got := c.now(0, 9*hour); got != 9*hour {
		t.Errorf("a new term begins at %d, want the ledger's %d", got, 9*hour)
	}
}

// TestPatientTime is not hurried by clocks that are set forward, by the leader
// before or in this term.
func TestPatientTime(t *testing.T) {
	const hour = 3_600_000
	var c cellTime
	c.begin(1000, 70)
	for i, step := range []struct{ wall, mono, want int64 }{
		{9 * hour, 100, 9 * hour}, // the term begins
		{9*hour + 10, 110, 9*hour + 10},
		{99 * hour, 120, 9*hour + 20},                // set forward
		{9*hour + 30, 130, 9*hour + 30},              // set right: the ledger's time stays ahead
		{200 * hour, 130 + hour, 10*hour + 30},       // goes as fast as time does
		{200*hour + 5, 135 + hour, 10*hour + 30 + 5}, //
	} {
		now, first := c.patient(step.wall, step.mono)
		if now != step.want || first != 9*hour {
			t.Errorf("step %d: %d since %d, want %d since %d", i, now, first, step.want, 9*hour)
		}
	}
}

// TestSteadyTime sees clocks that are set forward, and no others.
func TestSteadyTime(t *testing.T) {
	const hour = 3_600_000
	var s steady
	for i, step := range []struct{ cell, mono, want int64 }{
		{9 * hour, 100, 0}, // the term begins
		{9*hour + 60_000, 60_100, 60_000},
		{10*hour + 60_001, 60_101, 0},         // set forward
		{10*hour + 90_001, 90_101, 30_000},    //
		{10*hour + 120_901, 120_101, 60_000},  // slewed, by 0.9 s
		{10*hour + 121_901, 120_201, 0},       // and 0.9 s more
		{10*hour + 130_000, 150_201, 30_000},  // behind, at half speed
		{10*hour + 160_201, 180_201, 60_000},  //
		{10*hour + 200_201, 190_201, 0},       // and forward again
		{10*hour + 260_201, 250_201, 60_000},  //
		{10*hour + 320_201, 310_201, 120_000}, //
	} {
		if got := s.note(step.cell, step.mono); got != step.want {
			t.Errorf("step %d: steady for %d ms, want %d", i, got, step.want)
		}
	}
}
