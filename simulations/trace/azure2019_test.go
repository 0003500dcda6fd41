package trace

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	countsOf2019 = "HashOwner,HashApp,HashFunction,Trigger,1,2,3\n" +
		"ann,a,f,http,2,0,40\nbob,b,g,timer,0,1,0\neve,c,h,queue,7,7,7\n"
	tookOf2019 = "HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum,percentile_Average_0,percentile_Average_1,percentile_Average_25,percentile_Average_50,percentile_Average_75,percentile_Average_99,percentile_Average_100\n" +
		"ann,a,f,150,42,100,900,100,100,120,140,160,800,900\nbob,b,g,5000,1,5000,5000,5000,5000,5000,5000,5000,5000,5000\n"
)

func counts(text, took string, most int, seed uint64) (rows []row, err error) {
	return readAzureCounts(strings.NewReader(text), Options{Durations: strings.NewReader(took), Most: most, Seed: seed})
}

// TestCountsAreDrawn wants as many calls of each function in each minute as were
// counted, none longer or shorter than the table says, and half of them on each side of
// the median.
func TestCountsAreDrawn(t *testing.T) {
	rows, err := counts(countsOf2019, tookOf2019, 1000, 1)
	if err != nil || len(rows) != 43 {
		t.Fatalf("%d calls, %v; eve's function has no durations, the others were called 43 times", len(rows), err)
	}
	perMinute, below := [3]int{}, 0
	for _, r := range rows {
		perMinute[int(r.at/60)]++
		switch {
		case r.owner == "bob" && r.service != 5:
			t.Errorf("bob's call took %g s, want 5", r.service)
		case r.owner == "ann" && (r.service < 0.1 || r.service > 0.9):
			t.Errorf("ann's call took %g s, want 0.1 to 0.9", r.service)
		case r.service < 0.14:
			below++
		}
	}
	if perMinute != [3]int{2, 1, 40} || below < 10 || below > 32 {
		t.Errorf("%v calls in the minutes, %d of ann's below the median", perMinute, below)
	}
	again, _ := counts(countsOf2019, tookOf2019, 1000, 1)
	other, _ := counts(countsOf2019, tookOf2019, 1000, 2)
	if !slices.Equal(rows, again) || slices.Equal(rows, other) {
		t.Error("a seed does not say what is drawn")
	}
	lost := ""
	for _, most := range []int{1000, 2} { // all three minutes, and only the first
		_, err := readAzureCounts(strings.NewReader(countsOf2019), Options{Durations: strings.NewReader(tookOf2019), Most: most, Seed: 1,
			LeftOut: func(calls, functions int) { lost += fmt.Sprint(calls, " of ", functions, "; ") }})
		if err != nil {
			t.Fatal(err)
		}
	}
	if lost != "21 of 1; 7 of 1; " {
		t.Errorf("left out are %q", lost)
	}
	if first, _ := counts(countsOf2019, tookOf2019, 3, 1); len(first) != 3 || !slices.Equal(first, rows[:3]) {
		t.Errorf("the first three are %+v", first)
	}
}

func TestCountsThatAreWrong(t *testing.T) {
	for _, c := range []struct{ text, took, want string }{
		{"HashOwner,HashApp,1\n", tookOf2019, "the column HashFunction is missing"},
		{countsOf2019, "HashOwner,HashApp,HashFunction\n", "durations: the column percentile_Average_0 is missing"},
		{countsOf2019, strings.Replace(tookOf2019, ",140,", ",-1,", 1), "durations: line 2: percentile_Average_50: want milliseconds of 0 or more"},
		{countsOf2019, strings.Replace(tookOf2019, ",140,", ",900,", 1), "durations: line 2: the percentiles do not grow"},
		{strings.Replace(countsOf2019, "0,40", "0,-4", 1), tookOf2019, `line 2: 3: want how often it was called in that minute, got "-4"`},
		{strings.ReplaceAll(countsOf2019, "a,f", "z,z"), strings.ReplaceAll(tookOf2019, "bob", "x"), "no function has durations"},
		{strings.Replace(countsOf2019, "2,0", "6000000,0", 1), tookOf2019, "minute 1: more than 5000000 calls"},
		{"", tookOf2019, "the header"},
	} {
		if _, err := counts(c.text, c.took, 10, 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60q: %v, want %s", c.text, err, c.want)
		}
	}
	if _, err := Read(strings.NewReader(countsOf2019), Options{Format: AzureCounts, Most: 10, Speed: 1}); err != ErrNoDurations {
		t.Errorf("without durations: %v", err)
	}
}

// FuzzCounts wants arrivals in order within a day.
func FuzzCounts(f *testing.F) {
	f.Add(countsOf2019, tookOf2019)
	f.Add("HashOwner,HashApp,HashFunction,1\na,b,c,9\n", tookOf2019)
	f.Fuzz(func(t *testing.T, text, took string) {
		if len(text)+len(took) > 1<<14 {
			return
		}
		rows, err := Read(strings.NewReader(text), Options{Format: AzureCounts, Most: 50, Speed: 1, Durations: strings.NewReader(took), Seed: 1})
		if err != nil {
			return
		}
		if len(rows) > 50 || rows[0].At != 0 || rows[len(rows)-1].At > int64(24*time.Hour) {
			t.Errorf("%d arrivals, the last at %d", len(rows), rows[len(rows)-1].At)
		}
	})
}
