package trace

import (
	"cmp"
	"fmt"
	"io"
	"math"

	"github.com/perrin-mesh/perrin/simulations/parquet"
	"github.com/perrin-mesh/perrin/simulations/scenario"
)

// Columns of tasks.parquet of OpenDC (its workload format): when a task was submitted, as
// a point in time or in ms, how many ms it takes, and on how many CPUs.
const openSubmitted, openTook, openCPUs = "submission_time", "duration", "cpu_count"

// farthest is how far from 1970 a point in time may be, in s.
const farthest = 1e12

// readOpenDC reads tasks; the CPUs of one count as its tasks, as processors do in SWF.
func readOpenDC(in io.Reader) ([]row, error) {
	data, err := io.ReadAll(io.LimitReader(in, parquet.MaxFile+1))
	if err != nil {
		return nil, err
	}
	columns, err := parquet.Read(data, MaxRows, openSubmitted, openTook, openCPUs)
	if err != nil {
		return nil, err
	}
	at, took, cpus := columns[0], columns[1], columns[2]
	unit := cmp.Or(at.Seconds, 1e-3)
	rows := make([]row, len(at.Values))
	for i := range rows {
		r := row{line: i + 1, at: at.Values[i] * unit, service: took.Values[i] / 1000, tasks: int64(cpus.Values[i])}
		switch {
		case math.IsNaN(at.Values[i]) || math.Abs(r.at) > farthest:
			return nil, fmt.Errorf("row %d: %s: want a time, got %g", i+1, openSubmitted, at.Values[i])
		case math.IsNaN(r.service) || r.service < 0:
			return nil, fmt.Errorf("row %d: %s: want ms of 0 or more, got %g", i+1, openTook, took.Values[i])
		case !(cpus.Values[i] >= 1 && cpus.Values[i] <= scenario.MaxTasks):
			return nil, fmt.Errorf("row %d: %s: want 1 to %d, got %g", i+1, openCPUs, scenario.MaxTasks, cpus.Values[i])
		}
		rows[i] = r
	}
	return rows, nil
}
