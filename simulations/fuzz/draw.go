package fuzz

import (
	"fmt"
	"strings"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/scenario"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

// drawer writes random fields for a scenario.
type drawer struct {
	chance.Stream
	base *scenario.Scenario
}

// What the fuzzer's streams are for; no model has these purposes.
const (
	forTries    = 1 << 30
	forPatience = 1<<30 + 1
)

// Draw returns the scenario of a try. Try 0 is the base.
func Draw(root *document.Node, base *scenario.Scenario, seed uint64, try int) (*document.Node, error) {
	out := set(root, "replications", scalar(document.Number, "1"))
	if try == 0 {
		return out, nil
	}
	if p := (&drawer{chance.Seed(seed).Stream(uint32(try), forPatience), base}); p.one(4) {
		if tree, err := p.patient(out); tree != nil || err != nil {
			return tree, err
		}
	}
	d := &drawer{chance.Seed(seed).Stream(uint32(try), forTries), base}
	var lines []string
	add := func(key, text string) { lines = append(lines, key+": "+text) }
	add("seed", fmt.Sprint(d.IntN(1_000_000)))
	add("faults", "["+strings.Join(d.several(1+d.IntN(5), d.fault), ", ")+"]")
	if d.one(3) {
		add("churn", d.churn())
	}
	if left := d.honest(); d.one(4) && left > 0 {
		add("attackers", fmt.Sprintf("[{does: %s, share: %d%%}]", d.attack(), 1+d.IntN(min(left, 40))))
	}
	if d.one(4) {
		add("cells", "{keep: 0, at_once: 0}")
	}
	if d.one(4) {
		size := 3 + d.IntN(30)
		add("cell_size", fmt.Sprint(size))
		add("voters", fmt.Sprint(min(1+2*d.IntN(3), (min(size, base.Peers)-1)|1)))
	}
	out, err := changed(out, lines)
	if err != nil || !d.one(2) {
		return out, err
	}
	return d.withWork(out)
}

// changed returns a tree with other fields; items are added to lists.
func changed(root *document.Node, lines []string) (*document.Node, error) {
	changes, err := scenario.ReadTree("drawn", []byte(strings.Join(lines, "\n")+"\n"))
	if err != nil {
		return nil, err
	}
	out := root
	for _, f := range changes.Fields {
		value := f.Value
		if before := root.Get(f.Key); before != nil && value.Kind == document.List && before.Kind == document.List {
			value = &document.Node{Kind: document.List, Items: append(append([]*document.Node{}, before.Items...), value.Items...)}
		}
		out = set(out, f.Key, value)
	}
	return out, nil
}

// honest is how many percent of the peers are no attackers yet.
func (d *drawer) honest() int {
	left := int64(100)
	for _, a := range d.base.Attackers {
		left -= (a.Share + 9999) / 10_000
	}
	return int(left)
}

// attack is what drawn attackers do. Cores that no allocator takes are not claimed.
func (d *drawer) attack() string {
	switch does := d.pick("refuse", "fail", "vanish", "withhold", "oversell", "overcharge", "lie", "sybil", "collude", "forge", "free-ride"); does {
	case scenario.Oversells:
		return d.oversell()
	case scenario.Lies:
		return does + ", together: " + d.pick("true", "false")
	case scenario.Sybils:
		return fmt.Sprintf("%s, identities: %d, known: %s", does, 2+d.IntN(8), d.pick("true", "false"))
	case scenario.Colludes, scenario.Forges:
		return does + ", above: " + d.pick("0%", "20%", "100%")
	default:
		return does
	}
}

func (d *drawer) oversell() string {
	claims := 4
	for i := range d.base.Machines {
		claims = min(claims, workload.MaxCPUs/d.base.Machines[i].Cores)
	}
	if claims < 2 {
		return scenario.Refuses
	}
	return fmt.Sprintf("%s, claims: %d", scenario.Oversells, claims)
}

// one happens once in n times.
func (d *drawer) one(n int) bool { return d.IntN(n) == 0 }

func (d *drawer) pick(words ...string) string { return words[d.IntN(len(words))] }

func (d *drawer) several(n int, draw func() string) (out []string) {
	for range n {
		out = append(out, draw())
	}
	return out
}

// time is one within the run, as a scenario has it.
func (d *drawer) time() string { return span(d.Int64N(d.base.Duration * 9 / 10)) }

// span is a duration in whole ms, at least one.
func span(ns int64) string { return fmt.Sprintf("%dms", max(ns/1_000_000, 1)) }

// share is a part of all, small ones and all more often than others.
func (d *drawer) share() string { return d.pick("5%", "20%", "50%", "90%", "100%") }

func (d *drawer) fault() string {
	f := "at: " + d.time()
	if !d.one(5) {
		f += ", for: " + span(d.Int64N(max(d.base.Duration*3/4, 2_000_000)))
	}
	kinds := 8
	if len(d.base.Network.Regions) > 1 {
		kinds = 10
	}
	switch d.IntN(kinds) {
	case 0, 1:
		f += fmt.Sprintf(", crash: %s, share: %s", d.pick("leaders", "voters", "peers"), d.share())
	case 2:
		f += fmt.Sprintf(", slow: %d, share: %s", 2+d.IntN(100), d.share())
	case 3:
		f += fmt.Sprintf(", disk: %d, share: %s", 2+d.IntN(999), d.share())
	case 4:
		f += fmt.Sprintf(", loss: %d%%", 1+d.IntN(80))
	case 5:
		f += fmt.Sprintf(", freeze: leaders, share: %s", d.share())
	case 6:
		f += fmt.Sprintf(", duplicate: %d%%", 1+d.IntN(100))
	case 7:
		f += d.reorder()
	default:
		f += d.cut()
	}
	return "{" + f + "}"
}

// cut is a partition, in one direction or both.
func (d *drawer) cut() string {
	f := ", cut: [" + d.regions() + "]"
	if d.one(3) {
		f += ", one_way: true"
	}
	return f
}

func (d *drawer) reorder() string { return ", reorder: " + d.pick("5ms", "50ms", "500ms", "5s") }

// regions are some of the regions, never all.
func (d *drawer) regions() string {
	names := d.base.Network.Regions
	order := make([]int, len(names))
	for i := range order {
		order[i] = i
	}
	d.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	var some []string
	for _, i := range order[:1+d.IntN(len(order)-1)] {
		some = append(some, scenario.Flow(scalar(document.String, names[i].Name)))
	}
	return strings.Join(some, ", ")
}

func (d *drawer) churn() string {
	departure := func() string {
		text := fmt.Sprintf("{at: %s, share: %s", d.time(), d.share())
		if !d.one(4) {
			text += ", back: " + span(d.Int64N(max(d.base.Duration/3, 2_000_000)))
		}
		return text + "}"
	}
	text := "{departures: [" + strings.Join(d.several(1+d.IntN(2), departure), ", ") + "]"
	if d.one(2) {
		text += fmt.Sprintf(", session: {exponential: %s}, absence: %s", span(d.base.Duration/8+d.Int64N(d.base.Duration)), span(1+d.Int64N(d.base.Duration/4)))
	}
	return text + "}"
}

// withWork adds a stream of work: of one task and of many, short and longer than a
// lease.
func (d *drawer) withWork(root *document.Node) (*document.Node, error) {
	text := fmt.Sprintf("[{clients: %d, tasks: %d, service: %s, shape: {class: %s}}]", 1+d.IntN(20), 1+d.IntN(60),
		d.pick("50ms", "500ms", "3s", "20s", "60s", "{exponential: 5s}"), d.pick("core", "thread"))
	tree, err := scenario.ReadTree("drawn", []byte("workloads: "+text+"\n"))
	if err != nil {
		return nil, err
	}
	items := append(append([]*document.Node{}, root.Get("workloads").Items...), tree.Get("workloads").Items...)
	return set(root, "workloads", &document.Node{Kind: document.List, Items: items}), nil
}

func scalar(kind document.Kind, text string) *document.Node {
	return &document.Node{Kind: kind, Text: text}
}

// set returns a tree in which a field has another value; nil takes it out.
func set(root *document.Node, key string, value *document.Node) *document.Node {
	out := *root
	out.Fields = nil
	done := value == nil
	for _, f := range root.Fields {
		if f.Key == key {
			if value == nil || done {
				continue
			}
			f.Value, done = value, true
		}
		out.Fields = append(out.Fields, f)
	}
	if !done {
		out.Fields = append(out.Fields, document.Field{Key: key, Value: value})
	}
	return &out
}
