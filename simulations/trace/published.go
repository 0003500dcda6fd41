package trace

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// headless reads rows of a table without a header that has so many columns.
func headless(in io.Reader, columns int, each func(line int, record []string) error) error {
	r := csv.NewReader(bufio.NewReader(in))
	r.ReuseRecord, r.FieldsPerRecord = true, columns
	for n := 0; ; n++ {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if errors.Is(err, csv.ErrFieldCount) {
			line, _ := r.FieldPos(0)
			return fmt.Errorf("line %d: %d columns, the format has %d and no header", line, len(record), columns)
		}
		if err != nil {
			return err
		}
		line, _ := r.FieldPos(0)
		if n == MaxRows {
			return fmt.Errorf("line %d: more than %d rows", line, MaxRows)
		}
		if err := each(line, record); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
}

// Columns of batch_task.csv of Alibaba's cluster trace of 2018: task_name,
// instance_num, job_name, task_type, status, start_time, end_time, plan_cpu, plan_mem.
const (
	aliInstances, aliJob, aliStatus, aliStart, aliEnd = 1, 2, 4, 5, 6
	aliColumns                                        = 9
)

// readAlibaba reads tasks that terminated; their instances are tasks, each as long as
// the whole, and a job is an owner.
func readAlibaba(in io.Reader) (rows []row, err error) {
	err = headless(in, aliColumns, func(line int, f []string) error {
		if f[aliStatus] != "Terminated" || f[aliStart] == "0" || f[aliEnd] == "0" || f[aliInstances] == "" {
			return nil
		}
		start, err := seconds("start_time", f[aliStart], 0)
		end, err2 := seconds("end_time", f[aliEnd], 0)
		n, err3 := tasks(f[aliInstances])
		if err := errors.Join(err, err2, err3); err != nil {
			return err
		}
		if end < start {
			return fmt.Errorf("end_time: it ends %g s before its start_time", start-end)
		}
		rows = append(rows, row{line: line, at: start, service: end - start, tasks: n, owner: strings.Clone(f[aliJob])})
		return nil
	})
	return rows, err
}

// Columns of task_events of Google's cluster trace of 2011, and three of its kinds of
// events. Times are in us; 0 is before the trace.
const (
	googleTime, googleJob, googleTask, googleKind, googleUser = 0, 2, 3, 5, 6
	googleColumns                                             = 13
	googleSubmit, googleSchedule, googleFinish                = "0", "1", "4"
)

// readGoogle reads tasks that were submitted, scheduled and finished within the file,
// each a workload of one task that takes from the last to the end.
func readGoogle(in io.Reader) (rows []row, err error) {
	type open struct{ submitted, scheduled float64 }
	tasks := map[string]open{}
	before := 0.0
	err = headless(in, googleColumns, func(line int, f []string) error {
		us, err := strconv.ParseFloat(f[googleTime], 64)
		if err != nil || us < 0 {
			return fmt.Errorf("timestamp (column 1): want microseconds of 0 or more, got %.40q", f[googleTime])
		}
		at := us / 1e6
		if at < before {
			return fmt.Errorf("timestamp (column 1): %g s before the line above: sort the events by time", before-at)
		}
		before = min(at, maxTime/1e9) // the last rows of the trace are of "after it"
		key := f[googleJob] + " " + f[googleTask]
		t, known := tasks[key]
		switch {
		case f[googleKind] == googleSubmit && at > 0:
			tasks[key] = open{submitted: at}
		case f[googleKind] == googleSchedule && known:
			t.scheduled = at
			tasks[key] = t
		case f[googleKind] == googleFinish && known && t.scheduled > 0:
			rows = append(rows, row{line: line, at: t.submitted, service: at - t.scheduled, tasks: 1, owner: strings.Clone(f[googleUser])})
			delete(tasks, key)
		}
		return nil
	})
	return rows, err
}

// podColumns are of the pods of Alibaba's cluster trace of GPUs of 2023 (openb): a pod
// is a task from its scheduling to its deletion; its class of service is the owner.
var podColumns = columns{at: "creation_time", from: "scheduled_time", to: "deletion_time", owner: "qos", skip: true}

// tokenColumns are of Azure's traces of requests to language models of 2023.
var tokenColumns = columns{stamp: "TIMESTAMP", in: "ContextTokens", out: "GeneratedTokens"}

// stampLayout is a time of theirs; fractions of a second may follow.
const stampLayout = "2006-01-02 15:04:05"

// stamp reads a time of a day as seconds.
func stamp(name, text string) (float64, error) {
	at, err := time.Parse(stampLayout, strings.TrimSpace(text))
	if err != nil {
		return 0, fmt.Errorf("%s: want a time such as 2023-11-16 18:17:03.98, got %.40q", name, text)
	}
	return float64(at.Unix()) + float64(at.Nanosecond())/1e9, nil
}

// tokens reads how long a request takes: its words in, a hundredth of perToken each,
// and its words out.
func tokens(c *columns, record []string, index map[string]int, perToken float64) (float64, error) {
	in, err := strconv.ParseUint(strings.TrimSpace(record[index[c.in]]), 10, 32)
	out, err2 := strconv.ParseUint(strings.TrimSpace(record[index[c.out]]), 10, 32)
	if err := errors.Join(err, err2); err != nil {
		return 0, fmt.Errorf("%s, %s: want whole numbers of tokens: %w", c.in, c.out, err)
	}
	return (float64(in)/100 + float64(out)) * perToken, nil
}
