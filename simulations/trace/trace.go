// Package trace turns records of real work into arrivals of a scenario: when each
// workload came, of how many tasks, how long each ran, and whose it was. It reads a
// plain CSV format of its own and eight that are published; no data ships with it. It
// thins, superposes and resamples arrivals, and fits distributions to them.
//
// A trace becomes part of the scenario's file, so that the file alone says what was
// simulated, and its hash covers the trace.
package trace

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/workload"
)

// The formats.
//
// CSV has a header with at_s and service_s, in seconds, and tasks and owner (a whole
// number) where they are known. AzureFunctions is the invocation trace of Azure
// Functions 2021: app, func, end_timestamp and duration in seconds; an app is an
// owner. SWF is the Standard Workload Format 2.2 of the Parallel Workloads Archive:
// a job's processors count as tasks, its user is the owner. published.go has the rest.
const (
	CSV            = "csv"
	AzureFunctions = "azure-functions-2021"
	SWF            = "swf"
	Alibaba        = "alibaba-2018-batch"
	Google         = "google-2011"
	Pods           = "openb-pods"
	Tokens         = "azure-llm-2023"
	AzureCounts    = "azure-functions-2019"
	OpenDC         = "opendc"
)

// Formats lists the formats.
var Formats = []string{CSV, AzureFunctions, SWF, Alibaba, Google, Pods, Tokens, AzureCounts, OpenDC}

// Options say what of a trace is taken.
type Options struct {
	Format string
	Most   int     // rows at most, the earliest; 1 to scenario.MaxArrivals
	Speed  float64 // how much faster time goes than in the trace; service times stay
	// PerToken is how long a token takes, in s, in a trace that has only their number; 0
	// is 0.02.
	PerToken float64
	// Durations is the table of durations that the counts of AzureCounts need, and Seed
	// what calls are drawn from; other formats have no use for them.
	Durations io.Reader
	Seed      uint64
	// LeftOut is told how many calls of AzureCounts, of how many functions, are left out
	// since Durations does not have them, among those of the minutes that were needed;
	// nil is told nothing.
	LeftOut func(calls, functions int)
}

// MaxRows bounds the rows of a file that are looked at.
const MaxRows = 5_000_000

// Read returns the arrivals of a trace in order, the first at 0. An error names the
// line and the column.
func Read(in io.Reader, o Options) ([]scenario.Arrival, error) {
	var rows []row
	var err error
	switch o.Format {
	case CSV:
		rows, err = readCSV(in, plainColumns, 0)
	case AzureFunctions:
		rows, err = readCSV(in, azureColumns, 0)
	case SWF:
		rows, err = readSWF(in)
	case Alibaba:
		rows, err = readAlibaba(in)
	case Google:
		rows, err = readGoogle(in)
	case Pods:
		rows, err = readCSV(in, podColumns, 0)
	case Tokens:
		rows, err = readCSV(in, tokenColumns, cmp.Or(o.PerToken, 0.02))
	case OpenDC:
		rows, err = readOpenDC(in)
	case AzureCounts:
		rows, err = readAzureCounts(in, o)
	default:
		return nil, fmt.Errorf("there is no format %.40q; there are %s", o.Format, strings.Join(Formats, ", "))
	}
	switch {
	case err != nil:
		return nil, err
	case len(rows) == 0:
		return nil, errors.New("the trace has no row")
	case !(o.Speed > 0) || o.Speed > 1e9:
		return nil, fmt.Errorf("speed: want more than 0, got %g", o.Speed)
	}
	if o.Format != CSV && o.Format != SWF { // in order of their ends, or of nothing
		slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(a.at, b.at) })
	}
	rows = rows[:min(len(rows), max(1, min(o.Most, scenario.MaxArrivals)))]
	return arrivals(rows, o.Speed)
}

// row is one workload; times are in s.
type row struct {
	line        int
	at, service float64
	tasks       int64
	owner       string
}

func arrivals(rows []row, speed float64) ([]scenario.Arrival, error) {
	owners := map[string]int{}
	out := make([]scenario.Arrival, len(rows))
	first, before := rows[0].at, rows[0].at
	for i, r := range rows {
		if r.at < before {
			return nil, fmt.Errorf("line %d: it came %g s before the one above: sort the trace by time", r.line, before-r.at)
		}
		before = r.at
		if _, known := owners[r.owner]; !known {
			owners[r.owner] = len(owners)
		}
		at := (r.at - first) / speed * 1e9
		if at > maxTime {
			return nil, fmt.Errorf("line %d: it comes more than ten years after the first", r.line)
		}
		if r.service*1e9 > float64(scenario.MaxService) {
			return nil, fmt.Errorf("line %d: a task takes %g s, a scenario's at most %d s, a year", r.line, r.service, scenario.MaxService/1e9)
		}
		out[i] = scenario.Arrival{
			At: int64(math.Round(at/1e3)) * 1e3, Service: max(int64(math.Round(r.service*1e6))*1e3, 1e3), Tasks: int(r.tasks), Owner: owners[r.owner],
		}
	}
	return out, nil
}

const maxTime = float64(scenario.MaxAt) // ns

// columns says which column has what; "" is none. A trace without the start of its
// workloads has their ends.
type columns struct {
	at, end, service, tasks, owner string
	from, to                       string // in place of service
	stamp, in, out                 string // a date, and tokens, in place of at and service
	skip                           bool   // rows that never ran, with an empty from or to
}

var (
	plainColumns = columns{at: "at_s", service: "service_s", tasks: "tasks", owner: "owner"}
	azureColumns = columns{end: "end_timestamp", service: "duration", owner: "app"}
)

func readCSV(in io.Reader, want columns, perToken float64) ([]row, error) {
	r, index, err := headed(in, want.at, want.end, want.service, want.from, want.to, want.stamp, want.in, want.out)
	if err != nil {
		return nil, err
	}
	var rows []row
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return nil, err
		}
		line, _ := r.FieldPos(0)
		if len(rows) == MaxRows {
			return nil, fmt.Errorf("line %d: more than %d rows", line, MaxRows)
		}
		if want.skip && (record[index[want.from]] == "" || record[index[want.to]] == "") {
			continue
		}
		one, err := want.row(record, index, perToken)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		one.line = line
		rows = append(rows, one)
	}
}

func (c *columns) row(record []string, index map[string]int, perToken float64) (row, error) {
	r := row{tasks: 1}
	var err, err2, err3 error
	if c.stamp != "" {
		r.at, err = stamp(c.stamp, record[index[c.stamp]])
		r.service, err2 = tokens(c, record, index, perToken)
	} else if c.from != "" {
		err = c.span(&r, record, index)
	} else if r.service, err = seconds(c.service, record[index[c.service]], 0); c.end == "" {
		r.at, err2 = seconds(c.at, record[index[c.at]], 0)
	} else if r.at, err2 = seconds(c.end, record[index[c.end]], -maxTime); err == nil {
		r.at -= r.service
	}
	if i, ok := index[c.tasks]; ok {
		r.tasks, err3 = tasks(record[i])
	}
	if i, ok := index[c.owner]; ok {
		r.owner = strings.Clone(record[i])
	}
	return r, errors.Join(err, err2, err3)
}

// span reads a row that has the beginning and the end of its work.
func (c *columns) span(r *row, record []string, index map[string]int) error {
	var err, err2, err3 error
	var from, to float64
	r.at, err = seconds(c.at, record[index[c.at]], 0)
	from, err2 = seconds(c.from, record[index[c.from]], 0)
	to, err3 = seconds(c.to, record[index[c.to]], 0)
	if err := errors.Join(err, err2, err3); err != nil {
		return err
	}
	if to < from {
		return fmt.Errorf("%s: %g s before %s", c.to, from-to, c.from)
	}
	r.service = to - from
	return nil
}

func seconds(name, text string, least float64) (float64, error) {
	v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || math.IsNaN(v) || v < least || v > maxTime/1e9 {
		return 0, fmt.Errorf("%s: want seconds of 0 or more, got %.40q", name, text)
	}
	return v, nil
}

func tasks(text string) (int64, error) {
	v, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || v < 1 || v > scenario.MaxTasks {
		return 0, fmt.Errorf("tasks: want 1 to %d, got %.40q", scenario.MaxTasks, text)
	}
	return v, nil
}

// Fields of SWF: the time of submission, the run time and the processors that a job
// had, and its user. -1 is not known.
const (
	swfSubmit, swfRun, swfProcessors, swfUser = 1, 3, 4, 11
	swfFields                                 = 18
)

// readSWF reads jobs, but for those that never ran.
func readSWF(in io.Reader) ([]row, error) {
	var rows []row
	s := bufio.NewScanner(in)
	for line := 1; s.Scan(); line++ {
		f := strings.Fields(s.Text())
		if len(f) == 0 || strings.HasPrefix(f[0], ";") {
			continue
		}
		if len(f) != swfFields {
			return nil, fmt.Errorf("line %d: %d fields, a job has %d", line, len(f), swfFields)
		}
		if len(rows) == MaxRows {
			return nil, fmt.Errorf("line %d: more than %d rows", line, MaxRows)
		}
		if f[swfRun] == "-1" || f[swfProcessors] == "-1" || f[swfProcessors] == "0" {
			continue
		}
		r := row{line: line, owner: f[swfUser]}
		var err, err2, err3 error
		r.at, err = seconds("submit time", f[swfSubmit], 0)
		r.service, err2 = seconds("run time", f[swfRun], 0)
		r.tasks, err3 = tasks(f[swfProcessors])
		if err := errors.Join(err, err2, err3); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		rows = append(rows, r)
	}
	return rows, s.Err()
}

// Stream is arrivals as an item of a scenario's workloads.
type Stream struct {
	Name     string   `json:"name"`
	Timeout  string   `json:"timeout,omitempty"` // "" is the default
	Arrivals []string `json:"arrivals"`          // at, tasks, service of each, owner
}

// NewStream writes arrivals as a scenario has them. Their timeout is long enough for
// the longest of them on a machine of a quarter of the reference's speed, as far as the
// product allows.
func NewStream(name string, rows []scenario.Arrival) Stream {
	s := Stream{Name: name, Arrivals: make([]string, len(rows))}
	if limit := timeout(rows); limit > 0 {
		s.Timeout = short(limit)
	}
	for i, r := range rows {
		s.Arrivals[i] = fmt.Sprintf("%s %d %s %d", short(r.At), r.Tasks, short(r.Service), r.Owner)
	}
	return s
}

// YAML returns the stream as the workloads of a scenario.
func (s *Stream) YAML() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "workloads:\n  - name: %s\n", strconv.Quote(s.Name))
	if s.Timeout != "" {
		fmt.Fprintf(&b, "    timeout: %s\n", s.Timeout)
	}
	b.WriteString("    arrivals: # at, tasks, service of each, owner\n")
	for _, a := range s.Arrivals {
		fmt.Fprintf(&b, "      - %s\n", a)
	}
	return []byte(b.String())
}

// timeout is in whole hours of ns; 0 when the default is enough.
func timeout(rows []scenario.Arrival) int64 {
	var longest int64
	for _, r := range rows {
		longest = max(longest, r.Service)
	}
	if 4*longest <= workload.DefaultSpec().Timeout*int64(time.Millisecond) {
		return 0
	}
	hour := int64(time.Hour)
	return min((4*longest+hour-1)/hour*hour, int64(workload.MaxTimeout))
}

// short writes whole us as a duration.
func short(ns int64) string {
	switch {
	case ns%1e9 == 0:
		return fmt.Sprintf("%ds", ns/1e9)
	case ns%1e6 == 0:
		return fmt.Sprintf("%dms", ns/1e6)
	}
	return fmt.Sprintf("%dus", ns/1e3)
}
