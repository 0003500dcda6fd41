// Golang runs a scenario under a policy of its own: it calls the cheapest node and
// the nearest one.
//
//	go run ./examples/policy/golang scenario.yaml
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/perrin-mesh/perrin/simulations/policy"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/simulations/study"
)

// near has no state; a policy that keeps some has it here, one for each replication.
type near struct{}

// Choose implements policy.Chooser.
func (near) Choose(q *policy.Question) ([]int, error) {
	cheapest, nearest := 0, 0
	for i, n := range q.Nodes {
		if n.Offer.Asks.Core < q.Nodes[cheapest].Offer.Asks.Core {
			cheapest = i
		}
		if n.RTTMicros < q.Nodes[nearest].RTTMicros {
			nearest = i
		}
	}
	if cheapest == nearest {
		return []int{nearest}, nil
	}
	return []int{cheapest, nearest}, nil
}

func run(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	s, err := scenario.Parse(file, text)
	if err != nil {
		return err
	}
	s.Policy = scenario.Policy{Name: scenario.Own}
	out, err := study.Run(context.Background(), s, study.Options{Choose: func(uint64) policy.Chooser { return near{} }})
	if err != nil {
		return err
	}
	for _, row := range out.Rows {
		fmt.Printf("%-18s %12.4f ± %.4f %s\n", row.Name, row.Interval.Mean, row.Interval.Half, row.Unit)
	}
	return nil
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: golang SCENARIO.yaml")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
