package study

import (
	"fmt"

	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/parquet"
	"github.com/perrin-mesh/perrin/simulations/scenario"
)

// eventColumns are those of eventHeader as Parquet has them.
var eventColumns = []parquet.Field{
	{Name: "event", Kind: parquet.Int64}, {Name: "at_ns", Kind: parquet.Int64}, {Name: "cause", Kind: parquet.Int64},
	{Name: "kind", Kind: parquet.Text}, {Name: "what", Kind: parquet.Text, Optional: true},
	{Name: "peer", Kind: parquet.Int32, Optional: true}, {Name: "from", Kind: parquet.Int32, Optional: true},
	{Name: "cell", Kind: parquet.Int32, Optional: true}, {Name: "workload", Kind: parquet.Int32, Optional: true},
	{Name: "note", Kind: parquet.Text, Optional: true},
}

// eventTable returns what writes a record as a row of a Parquet table, and what ends
// the table. Its metadata has, as perrin.events, the first line of a log in JSON.
func eventTable(f *logFile, sc *scenario.Scenario, n int) (row func(*model.Record), end func() error, err error) {
	w, err := parquet.NewWriter(f.out, eventColumns, [2]string{"perrin.events", headOf(sc, n)})
	if err != nil {
		return nil, nil, fmt.Errorf("write %s: %w", f.File, err)
	}
	text := func(column int, v string) {
		if v == "" && eventColumns[column].Optional {
			w.None(column)
		} else {
			w.Text(column, v)
		}
	}
	return func(r *model.Record) {
		for i, v := range []uint64{r.Number, uint64(r.At), r.Cause} {
			w.Int(i, int64(v))
		}
		text(3, r.Kind)
		text(4, r.What)
		for i, v := range []int32{r.Peer, r.From, r.Cell, r.Workload} {
			if v >= 0 {
				w.Int(5+i, int64(v))
			} else {
				w.None(5 + i)
			}
		}
		text(9, r.Note)
		if err := w.Row(); err != nil && f.err == nil {
			f.err = fmt.Errorf("write %s: %w", f.File, err)
		}
		f.Rows++
	}, w.Close, nil
}
