package scenario

import (
	"slices"
	"strings"

	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

// Policy is who decides where work runs. A field beside Name belongs to the
// policies of policyFields alone.
type Policy struct {
	Name      string `json:"name"`
	K         int    `json:"k"`                 // nodes that are called
	Probes    int    `json:"probes"`            // reservations for each task
	Decision  int64  `json:"decision"`          // ns that a scheduler thinks about a workload
	Heartbeat int64  `json:"heartbeat"`         // ns between two reports of a peer to the one scheduler
	Fit       string `json:"fit"`               // Pack or Spread
	Shade     int64  `json:"shade"`             // ppm that bidders ask above their cost
	Cutoff    int64  `json:"cutoff"`            // ns of service from which a workload is long
	Reserve   int64  `json:"reserve"`           // ppm of the peers that long workloads never use
	Command   string `json:"command,omitempty"` // words of the process that decides; without one a Go program brings a Chooser
	Timeout   int64  `json:"timeout,omitempty"` // ns of real time for an answer of the process
	// Program is the SHA-256 over the files that Command names, for the hash of the
	// scenario; external.Identify fills it in.
	Program string `json:"program,omitempty"`
}

// The policies. Perrin is the production market.
const (
	Perrin     = "perrin"
	FirstPrice = "first-price"
	Random     = "random"
	RandomK    = "random-k"
	PowerOfTwo = "power-of-two"
	Sparrow    = "sparrow"
	Hawk       = "hawk"
	Omega      = "omega"
	Central    = "central"
	AllKnowing = "all-knowing"
	Own        = "own"
)

// How the one scheduler of Central chooses: the fullest node that fits, as Nomad
// does, or the emptiest, as Kubernetes does.
const (
	Pack   = "pack"
	Spread = "spread"
)

// Policies lists the policies there are.
var Policies = []string{Perrin, FirstPrice, Random, RandomK, PowerOfTwo, Sparrow, Hawk, Omega, Central, AllKnowing, Own}

// policyFields says whose field is whose.
var policyFields = map[string][]string{
	"k": {RandomK}, "probes": {Sparrow, Hawk}, "decision": {Omega}, "heartbeat": {Central}, "fit": {Central}, "shade": {FirstPrice},
	"cutoff": {Hawk}, "reserve": {Hawk}, "command": {Own}, "timeout": {Own},
}

// defaultPolicy has Sparrow's probe ratio (Ousterhout et al., SOSP 2013), Hawk's
// reserved share (Delgado et al., ATC 2015) and the heartbeat of Nomad and of a
// kubelet.
func defaultPolicy() Policy {
	return Policy{
		Name: Perrin, K: 3, Probes: 2, Decision: 0, Heartbeat: 10 * second, Fit: Spread, Cutoff: 10 * second, Reserve: 170_000,
	}
}

func (r *reader) policy(n *document.Node, p *Policy) {
	if n.Kind != document.Map {
		r.policyName(n, p)
		return
	}
	r.fields(n, "policy", map[string]field{
		"name":      func(n *document.Node) { r.policyName(n, p) },
		"k":         r.count("policy.k", 1, 64, &p.K),
		"probes":    r.count("policy.probes", 1, 16, &p.Probes),
		"decision":  r.duration("policy.decision", 0, hour, &p.Decision),
		"heartbeat": r.duration("policy.heartbeat", 10*ms, hour, &p.Heartbeat),
		"fit": func(n *document.Node) {
			if p.Fit = n.Text; n.Text != Pack && n.Text != Spread {
				r.fail(n.Pos, "write pack or spread", "policy.fit: there is no %s", shown(n))
			}
		},
		"shade":   r.figure("policy.shade", percent, 0, million, func(v float64) { p.Shade = int64(v) }),
		"cutoff":  r.duration("policy.cutoff", ms, 24*365*hour, &p.Cutoff),
		"reserve": r.figure("policy.reserve", percent, 0, million, func(v float64) { p.Reserve = int64(v) }),
		"command": r.text("policy.command", &p.Command),
		"timeout": r.duration("policy.timeout", ms, hour, &p.Timeout),
	})
	for _, f := range n.Fields {
		if whose := policyFields[f.Key]; whose != nil && !slices.Contains(whose, p.Name) {
			r.fail(f.Pos, "leave it out, or write name: "+whose[0], "policy.%s: %s has no %s", f.Key, p.Name, f.Key)
		}
	}
}

func (r *reader) policyName(n *document.Node, p *Policy) {
	if slices.Contains(Policies, n.Text) {
		p.Name = n.Text
		return
	}
	r.fail(n.Pos, PolicyHint(n.Text), "policy: there is no %s", shown(n))
}

// PolicyHint says what to write in place of a policy that there is not.
func PolicyHint(name string) string {
	if near := document.Nearest(name, Policies); near != "" {
		return "did you mean " + near + "?"
	}
	return "the policies are " + strings.Join(Policies, ", ")
}
