package trace

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/perrin-mesh/perrin/simulations/chance"
)

// Azure Functions 2019 (Shahrad et al., USENIX ATC 2020) has counts and percentiles
// in place of invocations: how often each function was called in each minute of a day,
// and a table of how long it took. Invocations are drawn from both by a seed: evenly
// within their minute, and durations between percentiles in a straight line.

const minutesOfADay = 1440

// ErrNoDurations is returned of counts without the table of durations.
var ErrNoDurations = errors.New("the counts of " + AzureCounts + " do not say how long calls took: give function_durations_percentiles too")

// percentiles are the columns of the table of durations, and the shares they are of.
var percentiles = []struct {
	column string
	share  float64
}{
	{"percentile_Average_0", 0}, {"percentile_Average_1", 0.01}, {"percentile_Average_25", 0.25}, {"percentile_Average_50", 0.5},
	{"percentile_Average_75", 0.75}, {"percentile_Average_99", 0.99}, {"percentile_Average_100", 1},
}

// function is one function of the trace, with its percentiles in s.
type function struct {
	line  int
	owner string
	took  []float64
}

// draw returns how long a call took, in s.
func (f *function) draw(s *chance.Stream) float64 {
	u := s.Float()
	for i := 1; i < len(percentiles); i++ {
		if low, high := percentiles[i-1], percentiles[i]; u <= high.share {
			part := (u - low.share) / (high.share - low.share)
			return f.took[i-1] + float64(part*(f.took[i]-f.took[i-1]))
		}
	}
	return f.took[len(percentiles)-1]
}

// calls is how often a function was called in a minute.
type calls struct {
	of *function
	n  int
}

// readAzureCounts draws the earliest calls, most of them or a few more. Functions of
// which no durations are known are left out, and o.LeftOut is told.
func readAzureCounts(in io.Reader, o Options) ([]row, error) {
	if o.Durations == nil {
		return nil, ErrNoDurations
	}
	took, err := readDurations(o.Durations)
	if err != nil {
		return nil, fmt.Errorf("durations: %w", err)
	}
	r, index, err := headed(in, "HashOwner", "HashApp", "HashFunction", "1")
	if err != nil {
		return nil, err
	}
	c := counted{most: max(1, o.Most)}
	known := 0
	for range MaxRows {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			c.tell(o.LeftOut)
			return c.rows(known, o.Seed)
		}
		if err != nil {
			return nil, err
		}
		line, _ := r.FieldPos(0)
		t, ok := took[functionKey(record, index)]
		if ok {
			known++
			f := &function{line: line, owner: strings.Clone(record[index["HashOwner"]]), took: t}
			err = c.add(f, record, index)
		} else {
			err = c.leaveOut(record, index)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
	}
	return nil, fmt.Errorf("more than %d rows", MaxRows)
}

func functionKey(record []string, index map[string]int) string {
	return record[index["HashOwner"]] + " " + record[index["HashApp"]] + " " + record[index["HashFunction"]]
}

// counted keeps the calls of as many minutes as are needed.
type counted struct {
	most    int
	minutes [minutesOfADay][]calls
	totals  [minutesOfADay]int
	all     int
	last    int // minutes from here on are not needed; 0 is that all are

	lostCalls [minutesOfADay]int // of functions without durations
	lostNew   [minutesOfADay]int // such functions, in the minute of their first call
}

// each calls f with the counts of a row that are not 0, of the minutes that are needed.
func (c *counted) each(record []string, index map[string]int, f func(minute, n int)) error {
	for m := range c.end() {
		i, ok := index[strconv.Itoa(m+1)]
		if !ok {
			break
		}
		if record[i] == "0" {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(record[i]), 10, 31)
		if err != nil {
			return fmt.Errorf("%d: want how often it was called in that minute, got %.40q", m+1, record[i])
		}
		if n > 0 {
			f(m, int(n))
		}
	}
	return nil
}

// leaveOut counts the calls of a function without durations.
func (c *counted) leaveOut(record []string, index map[string]int) error {
	first := true
	return c.each(record, index, func(m, n int) {
		c.lostCalls[m] += n
		if first {
			c.lostNew[m], first = c.lostNew[m]+1, false
		}
	})
}

// tell says what was left out of the minutes that were needed.
func (c *counted) tell(leftOut func(calls, functions int)) {
	calls, functions := 0, 0
	for m := range c.end() {
		calls, functions = calls+c.lostCalls[m], functions+c.lostNew[m]
	}
	if leftOut != nil && calls > 0 {
		leftOut(calls, functions)
	}
}

func (c *counted) add(f *function, record []string, index map[string]int) error {
	err := c.each(record, index, func(m, n int) {
		c.minutes[m] = append(c.minutes[m], calls{f, n})
		c.totals[m], c.all = c.totals[m]+n, c.all+n
	})
	if err != nil {
		return err
	}
	for end := c.end(); c.all-c.totals[end-1] >= c.most && end > 1; end = c.end() {
		c.all -= c.totals[end-1]
		c.minutes[end-1], c.totals[end-1], c.last = nil, 0, end-1
	}
	return nil
}

func (c *counted) end() int {
	if c.last == 0 {
		return minutesOfADay
	}
	return c.last
}

// rows draws the calls.
func (c *counted) rows(known int, seed uint64) ([]row, error) {
	switch {
	case known == 0:
		return nil, errors.New("no function has durations in the other file: both must be of one day")
	case c.all > MaxRows:
		return nil, fmt.Errorf("minute %d: more than %d calls up to its end; take less of the file", c.end(), MaxRows)
	}
	rows := make([]row, 0, c.all)
	for m := range c.end() {
		s := chance.Seed(seed).Stream(uint32(m), forCalls)
		for _, k := range c.minutes[m] {
			for range k.n {
				at := 60*float64(m) + float64(60*s.Float())
				rows = append(rows, row{line: k.of.line, at: at, service: k.of.draw(&s), tasks: 1, owner: k.of.owner})
			}
		}
	}
	return rows, nil
}

// readDurations reads the table of durations, which are in ms.
func readDurations(in io.Reader) (map[string][]float64, error) {
	want := []string{"HashOwner", "HashApp", "HashFunction"}
	for _, p := range percentiles {
		want = append(want, p.column)
	}
	r, index, err := headed(in, want...)
	if err != nil {
		return nil, err
	}
	took := map[string][]float64{}
	for range MaxRows {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return took, nil
		}
		if err != nil {
			return nil, err
		}
		line, _ := r.FieldPos(0)
		all := make([]float64, len(percentiles))
		for i, p := range percentiles {
			ms, err := seconds(p.column, record[index[p.column]], 0)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", line, errors.New(strings.Replace(err.Error(), "seconds", "milliseconds", 1)))
			}
			all[i] = ms / 1000
		}
		if !slices.IsSorted(all) {
			return nil, fmt.Errorf("line %d: the percentiles do not grow from %s to %s", line, percentiles[0].column, percentiles[len(percentiles)-1].column)
		}
		took[functionKey(record, index)] = all
	}
	return nil, fmt.Errorf("more than %d rows", MaxRows)
}

// headed reads the header of a table, which must have some columns.
func headed(in io.Reader, want ...string) (*csv.Reader, map[string]int, error) {
	r := csv.NewReader(bufio.NewReader(in))
	r.ReuseRecord = true
	header, err := r.Read()
	if err != nil {
		return nil, nil, fmt.Errorf("the header: %w", err)
	}
	index := map[string]int{}
	for i, name := range header {
		index[strings.TrimSpace(name)] = i
	}
	for _, name := range want {
		if _, ok := index[name]; !ok && name != "" {
			return nil, nil, fmt.Errorf("the column %s is missing; the header has %.200q", name, strings.Join(header, ","))
		}
	}
	return r, index, nil
}
