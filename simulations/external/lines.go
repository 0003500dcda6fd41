package external

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/perrin-mesh/perrin/simulations/policy"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/workload"
)

// Version is the version of the protocol.
const Version = 1

// Hello is the first line to the process. It answers with a Ready.
type Hello struct {
	Perrin   string `json:"perrin"` // "policy"
	Version  int    `json:"version"`
	Scenario string `json:"scenario"`
	Seed     uint64 `json:"seed"` // of the replication; for whatever the process draws
	Peers    int    `json:"peers"`
	CellSize int    `json:"cell_size"`
}

// Ready is the process's first line.
type Ready struct {
	Version int `json:"version"` // the one of Hello, as the process speaks it
}

// Question is a line to the process: a workload wants slots.
type Question struct {
	ID       uint64 `json:"id"` // counts the questions from 1
	NowMs    int64  `json:"now_ms"`
	Cell     int32  `json:"cell"`
	Leader   int32  `json:"leader"` // the peer that leads the cell
	Workload int32  `json:"workload"`
	Owner    int32  `json:"owner"`
	Wanted   uint32 `json:"wanted"` // slots
	Shape    Shape  `json:"shape"`
	MaxPrice int64  `json:"max_price"` // µcr for a slot-second; 0 is no limit
	Nodes    []Node `json:"nodes"`
}

// Shape is what each slot needs.
type Shape struct {
	Class  workload.Class `json:"class"` // core or thread
	CPUs   int32          `json:"cpus"`
	Memory int64          `json:"memory"` // bytes
	Disk   int64          `json:"disk"`   // bytes
}

// Node is a node that seems to have room, as its last offer says.
type Node struct {
	Node        int32  `json:"node"` // the peer
	RTTMicros   int64  `json:"rtt_us"`
	Slots       uint32 `json:"slots"` // of the shape that seem to fit
	Load        int64  `json:"load"`  // permille of its threads in use or called for
	CoreAsk     int64  `json:"core_ask"`
	ThreadAsk   int64  `json:"thread_ask"` // µcr/s, of the first of each
	Cores       int32  `json:"cores"`
	Threads     int32  `json:"threads"`
	FreeCores   int32  `json:"free_cores"`
	FreeThreads int32  `json:"free_threads"`
	Machine     string `json:"machine"` // its class in the scenario
}

// Answer is the process's line to a Question.
type Answer struct {
	ID   uint64  `json:"id"`
	Call []int32 `json:"call"` // nodes of the question, each once; the cheapest bid wins
}

func questionOf(id uint64, q *policy.Question) Question {
	s := q.Lot.Shape
	out := Question{
		ID: id, NowMs: q.Now, Cell: q.Cell, Leader: q.Leader, Workload: q.Workload, Owner: q.Owner, Wanted: q.Lot.Wanted, MaxPrice: q.Lot.MaxPrice,
		Shape: Shape{Class: s.Class, CPUs: s.CPUs, Memory: s.Memory, Disk: s.Disk}, Nodes: make([]Node, len(q.Nodes)),
	}
	for i := range q.Nodes {
		n := &q.Nodes[i]
		m, free := &n.Offer.Machine, &n.Offer.Free
		out.Nodes[i] = Node{
			Node: n.Number, RTTMicros: n.RTTMicros, Slots: n.Slots, Load: n.Load, CoreAsk: n.Offer.Asks.Core, ThreadAsk: n.Offer.Asks.Thread,
			Cores: m.Total.Cores, Threads: m.Total.Threads, FreeCores: free.Cores, FreeThreads: free.Threads, Machine: m.Name,
		}
	}
	return out
}

func helloOf(sc *scenario.Scenario, seed uint64) Hello {
	return Hello{Perrin: "policy", Version: Version, Scenario: sc.Name, Seed: seed, Peers: sc.Peers, CellSize: sc.CellSize}
}

// strict reads one JSON object that has no other fields than to.
func strict(line []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return fmt.Errorf("not what the protocol has: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value on the line")
	}
	return nil
}

func readReady(line []byte) error {
	var r Ready
	if err := strict(line, &r); err != nil {
		return err
	}
	if r.Version != Version {
		return fmt.Errorf("it speaks version %d of the protocol, this is version %d", r.Version, Version)
	}
	return nil
}

// readAnswer returns the picks of a line, as indexes of the question's nodes.
func readAnswer(line []byte, q *Question) ([]int, error) {
	var a Answer
	if err := strict(line, &a); err != nil {
		return nil, err
	}
	switch {
	case a.ID != q.ID:
		return nil, fmt.Errorf("it is for question %d, this was question %d", a.ID, q.ID)
	case len(a.Call) > policy.MaxCalls:
		return nil, fmt.Errorf("it calls %d nodes, at most %d", len(a.Call), policy.MaxCalls)
	}
	at := make(map[int32]int, len(q.Nodes))
	for i := range q.Nodes {
		at[q.Nodes[i].Node] = i
	}
	picked := make([]int, len(a.Call))
	for i, node := range a.Call {
		k, there := at[node]
		switch {
		case !there:
			return nil, fmt.Errorf("it calls node %d, which was not among the nodes of the question", node)
		case k < 0:
			return nil, fmt.Errorf("it calls node %d twice", node)
		}
		picked[i], at[node] = k, -1
	}
	return picked, nil
}
