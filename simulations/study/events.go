package study

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/scenario"
)

// eventHead is the first line of a log of events in JSON.
type eventHead struct {
	Schema      string `json:"schema"`
	Version     int    `json:"version"`
	Scenario    string `json:"scenario"`
	Hash        string `json:"scenario_sha256"`
	Policy      string `json:"policy"`
	Replication int    `json:"replication"` // from 1
	Seed        uint64 `json:"seed"`        // of the replication
}

// headOf is the first line of a log of a replication, counted from 0.
func headOf(sc *scenario.Scenario, n int) string {
	head, err := json.Marshal(eventHead{
		Schema: "perrin.events", Version: EventsVersion, Scenario: sc.Name, Hash: sc.Hash(), Policy: sc.Policy.Name, Replication: n + 1,
		Seed: uint64(chance.Seed(sc.Seed).Replication(n)),
	})
	if err != nil { // numbers and strings alone
		panic(fmt.Sprintf("study: %v", err))
	}
	return string(head)
}

// eventLines returns what writes a record as a JSON object on a line of its own.
// What an event does not have is left out.
func eventLines(f *logFile, sc *scenario.Scenario, n int) func(*model.Record) {
	f.row([]byte(headOf(sc, n) + "\n"))
	var b []byte
	return func(r *model.Record) {
		b = fmt.Appendf(b[:0], `{"event":%d,"at_ns":%d,"cause":%d,"kind":%q`, r.Number, r.At, r.Cause, r.Kind)
		if r.What != "" {
			b = fmt.Appendf(b, `,"what":%q`, r.What)
		}
		for i, v := range []int32{r.Peer, r.From, r.Cell, r.Workload} {
			if v >= 0 {
				b = fmt.Appendf(b, `,"%s":%d`, eventHeader[5+i], v)
			}
		}
		if r.Note != "" {
			note, _ := json.Marshal(r.Note) // a string always can be
			b = append(append(b, `,"note":`...), note...)
		}
		b = append(b, "}\n"...)
		f.row(b)
	}
}

// eventHeader are the columns of a log of events as a table, the numbers of what it
// is about from the sixth on.
var eventHeader = []string{"event", "at_ns", "cause", "kind", "what", "peer", "from", "cell", "workload", "note"}

// eventRows returns what writes a record as a row of a table. What an event does not
// have is empty.
func eventRows(f *logFile) func(*model.Record) {
	f.row([]byte(strings.Join(eventHeader, ",") + "\n"))
	var b []byte
	return func(r *model.Record) {
		b = fmt.Appendf(b[:0], "%d,%d,%d,%s,%s", r.Number, r.At, r.Cause, r.Kind, r.What)
		for _, v := range []int32{r.Peer, r.From, r.Cell, r.Workload} {
			if b = append(b, ','); v >= 0 {
				b = strconv.AppendInt(b, int64(v), 10)
			}
		}
		b = append(b, ',')
		if r.Note != "" {
			b = append(append(append(b, '"'), strings.ReplaceAll(r.Note, `"`, `""`)...), '"')
		}
		b = append(b, '\n')
		f.row(b)
	}
}
