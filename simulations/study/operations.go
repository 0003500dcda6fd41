package study

import (
	"encoding/json"
	"maps"
	"math"
	"slices"

	"github.com/perrin-mesh/perrin/simulations/model"
)

// operation is a line of a history: the fields of porcupine.Operation.
type operation struct {
	ClientID int `json:"ClientId"`
	Input    did
	Call     int64
	Output   any
	Return   int64
}

// did is what an operation was.
type did struct {
	Op       string `json:"op"` // submit, run or end
	Workload int32  `json:"workload"`
	Task     uint32 `json:"task"`
	Slot     uint64 `json:"slot"`
	AtNs     int64  `json:"at_ns"`
}

// history writes the operations of a replication. Times are counts: what comes later
// has a greater one, also at the same simulated time.
type history struct {
	to   *logFile
	tick int64
	open map[int32]submission // without an answer
}

// submission is when a workload was sent, as a count and in simulated ns.
type submission struct{ tick, at int64 }

func (h *history) take(o *model.Op) {
	h.tick += 2
	switch o.Kind {
	case model.Submits:
		h.open[o.Workload] = submission{h.tick, o.At}
	case model.Acked:
		h.submitted(o.Workload, h.tick)
	default:
		h.write(operation{Input: did{string(o.Kind), o.Workload, o.Task, uint64(o.Slot), o.At}, Call: h.tick, Return: h.tick + 1})
	}
}

// submitted writes a submission that was answered at a time.
func (h *history) submitted(load int32, answered int64) {
	h.write(operation{Input: did{Op: "submit", Workload: load, AtNs: h.open[load].at}, Call: h.open[load].tick, Return: answered})
	delete(h.open, load)
}

func (h *history) write(o operation) {
	o.ClientID = int(o.Input.Workload)
	text, err := json.Marshal(o)
	if err != nil && h.to.err == nil { // numbers and a word alone
		h.to.err = err
	}
	h.to.row(append(text, '\n'))
}

// end writes what was never answered: it may have happened at any later time.
func (h *history) end() error {
	for _, load := range slices.Sorted(maps.Keys(h.open)) {
		h.submitted(load, math.MaxInt64)
	}
	return h.to.err
}
