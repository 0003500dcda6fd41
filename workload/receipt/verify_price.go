package receipt

import (
	"fmt"
	"math"

	"github.com/perrin-mesh/perrin/workload"
)

// price: each segment cost what the tariff gives for its slot's rate and the
// time paid for, and that time is what the ledger's rule makes of the node's word.
func (c *check) price() (string, error) {
	if c.specErr != nil {
		return "", c.specErr
	}
	var sum int64
	bare := 0
	paid := map[workload.SlotID]int64{} // ms
	for i := range c.file.Segments {
		g := &c.file.Segments[i]
		if c.spec.MaxPrice > 0 && g.Rate > c.spec.MaxPrice {
			return "", fmt.Errorf("segment %d: at a rate of %d, the owner's limit is %d", i, g.Rate, c.spec.MaxPrice)
		}
		want := max(0, c.rules.Charge(g.Rate, g.PaidMs))
		if g.Vote != nil && g.Vote.Verdict == differs {
			want = 0
		}
		if g.Cost != want {
			return "", fmt.Errorf("segment %d: it cost %d, the tariff gives %d for %d ms", i, g.Cost, want, g.PaidMs)
		}
		if sum > math.MaxInt64-g.Cost {
			return "", fmt.Errorf("segment %d: a cost of %d", i, g.Cost)
		}
		sum += g.Cost
		if most, ok := c.claimed(g); !ok {
			bare++
		} else if err := c.paidRight(g, most, paid); err != nil {
			return "", fmt.Errorf("segment %d: %w", i, err)
		}
	}
	switch {
	case sum > c.rec.Cost:
		return "", fmt.Errorf("the segments cost %d, the statement says %d in all", sum, c.rec.Cost)
	case sum < c.rec.Cost && c.rec.Retries == 0:
		return "", fmt.Errorf("the segments cost %d, the statement says %d", sum, c.rec.Cost)
	case sum < c.rec.Cost:
		return "", lacking("%d of %d micro-credits are for attempts that were tried again, whose results are not kept", c.rec.Cost-sum, c.rec.Cost)
	}
	if bare > 0 {
		return "", c.stripped(bare)
	}
	return fmt.Sprintf("%d micro-credits, as the tariff gives for the awarded rates", sum), nil
}

// claimed is the time in ms that a node's word for a segment may be paid: none
// for attempts that the node failed, of work that several nodes check nor for those
// that it stopped before the workload ended, the timeout at most for each other one.
func (c *check) claimed(g *Segment) (int64, bool) {
	if len(g.Results) == 0 {
		return 0, false
	}
	var tasks int64
	for j := range g.Results {
		exit := g.Results[j].Exit
		if stopped := exit == workload.StoppedExit && c.spec.VerifyBy != nil && g.At < c.rec.Ended; exit != workload.NodeFault && !stopped {
			tasks++
		}
	}
	ms := workload.PaidMs(&c.spec.Resources, g.Usage)
	if tasks == 0 || c.spec.Timeout <= math.MaxInt64/tasks {
		ms = min(ms, c.spec.Timeout*tasks)
	}
	return ms, true
}

// paidRight checks the time that a segment was paid for against the node's word
// and the age of its slot, of which paid says how much was paid for before. A
// slot whose award is not kept has no age here, which the award's link says.
func (c *check) paidRight(g *Segment, most int64, paid map[workload.SlotID]int64) error {
	if g.PaidMs < 0 || g.PaidMs > most {
		return fmt.Errorf("paid for %d ms, the results make it %d at most", g.PaidMs, most)
	}
	before := paid[g.Slot]
	paid[g.Slot] += g.PaidMs // a sum of segments, each within the slot's age
	award, _, ok := c.awarded(g.Slot)
	if !ok {
		return nil
	}
	switch left := g.At - award.At - before; {
	case g.PaidMs > max(left, 0):
		return fmt.Errorf("paid for %d ms, of its slot %d were not paid for yet", g.PaidMs, max(left, 0))
	case g.PaidMs < min(most, left) && c.rec.Retries == 0:
		return fmt.Errorf("paid for %d ms, the results and the slot's age make it %d", g.PaidMs, min(most, left))
	}
	return nil
}
