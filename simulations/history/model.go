package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/perrin-mesh/perrin/workload"
)

// known is the state of one workload in the model: what operations may still
// find. A workload that lives may end by itself at any time, as succeeded or
// failed; only a stop ends it as stopped.
type known struct {
	there   bool
	ended   workload.Phase // "" while it lives
	closed  uint32         // the most tasks that a read saw ended
	version uint64         // the highest that a read saw
}

// step is the ledger's interface: it reports whether an operation may give its
// answer in state k, and the state after it.
func (k known) step(kind Kind, a Answer) (bool, known) {
	switch kind {
	case Submit:
		ok := !k.there
		k.there = true
		return ok, k
	case Stop:
		return k.stop(a)
	}
	return k.read(a)
}

func (k known) stop(a Answer) (bool, known) {
	switch {
	case a.Absent:
		return !k.there, k
	case a.Refused:
		return k.end(a.Phase)
	case a.Unknown && (!k.there || k.ended != ""):
		return true, k
	case k.there && (k.ended == "" || k.ended == workload.Stopped):
		k.ended = workload.Stopped
		return true, k
	}
	return false, k
}

func (k known) read(a Answer) (ok bool, next known) {
	switch {
	case a.Unknown:
		return true, k
	case a.Absent || !k.there:
		return a.Absent == !k.there, k
	case a.Closed < k.closed || a.Version < k.version:
		return false, k
	}
	k.closed, k.version = a.Closed, a.Version
	if !a.Phase.Ended() {
		return k.ended == "", k
	}
	return k.end(a.Phase)
}

// end is what an operation says that found the workload ended.
func (k known) end(phase workload.Phase) (bool, known) {
	switch {
	case !k.there:
		return false, k
	case k.ended == "" && phase != workload.Stopped:
		k.ended = phase
	}
	return k.ended == phase, k
}

// call is an operation's input to the model.
type call struct {
	kind Kind
	key  string
}

// model is the specification for Porcupine, of which each workload is a part of
// its own.
var model = porcupine.Model{
	Partition: partition,
	Init:      func() any { return known{} },
	Step: func(state, in, out any) (bool, any) {
		ok, next := state.(known).step(in.(call).kind, out.(Answer))
		return ok, next
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%s %+v", in.(call).kind, out.(Answer)) },
	DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state.(known)) },
}

func partition(ops []porcupine.Operation) [][]porcupine.Operation {
	parts := map[string][]porcupine.Operation{}
	var keys []string
	for _, op := range ops {
		key := op.Input.(call).key
		if parts[key] == nil {
			keys = append(keys, key)
		}
		parts[key] = append(parts[key], op)
	}
	out := make([][]porcupine.Operation, len(keys))
	for i, key := range keys {
		out[i] = parts[key]
	}
	return out
}

// checkWithin bounds the search for an order of one workload's operations.
const checkWithin = 20 * time.Second

// Linearizable looks, for every workload, for an order of its operations that
// agrees with their times and answers, and names those that have none.
func Linearizable(ops []Op) []Finding {
	all := make([]porcupine.Operation, len(ops))
	for i, op := range ops {
		all[i] = porcupine.Operation{ClientId: op.Client, Input: call{op.Kind, op.Key}, Output: op.Answer, Call: op.Call, Return: op.Return}
	}
	var found []Finding
	for _, part := range partition(all) {
		alone := model
		alone.Partition = nil
		switch porcupine.CheckOperationsTimeout(alone, part, checkWithin) {
		case porcupine.Illegal:
			found = append(found, Finding{CheckLinearizable, part[0].Input.(call).key + ": no order explains\n" + describe(part)})
		case porcupine.Unknown:
			found = append(found, Finding{CheckLinearizable, part[0].Input.(call).key + ": no order was found in time"})
		}
	}
	return found
}

func describe(part []porcupine.Operation) (text string) {
	slices.SortFunc(part, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	for _, op := range part {
		until := "open"
		if op.Return != never {
			until = time.Duration(op.Return).Round(time.Microsecond).String()
		}
		text += fmt.Sprintf("  %v to %s, client %d: %s\n", time.Duration(op.Call).Round(time.Microsecond), until, op.ClientId, model.DescribeOperation(op.Input, op.Output))
	}
	return text
}
