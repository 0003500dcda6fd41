package scenario

import (
	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/workload"
)

// Scenario is one experiment but for the seed of each replication. Its JSON form
// is what the hash in a manifest runs over.
type Scenario struct {
	Name         string      `json:"name"`
	About        string      `json:"about"`
	Seed         uint64      `json:"seed"`
	Duration     int64       `json:"duration"` // simulated ns, warm-up included
	Warmup       int64       `json:"warmup"`   // ns at the beginning that are not measured
	Cooldown     int64       `json:"cooldown"` // ns at the end whose arrivals are not measured
	Replications int         `json:"replications"`
	Interval     int64       `json:"interval"` // ns between two rows of the time series
	Peers        int         `json:"peers"`
	CellSize     int         `json:"cell_size"`
	Voters       int         `json:"voters"` // of a cell
	Owners       int         `json:"owners"` // tenants that submit
	Policy       Policy      `json:"policy"`
	Network      Network     `json:"network"`
	Machines     []Machine   `json:"machines"`
	Workloads    []Workloads `json:"workloads"`
	Start        chance.Dist `json:"start"` // ns from an award's arrival to a slot's first instruction
	Churn        Churn       `json:"churn"`
	Drift        int64       `json:"drift,omitempty"` // ppm by which a peer's clock is fast or slow at most, drawn evenly
	Costs        Costs       `json:"costs"`
	Cells        Cells       `json:"cells"`
	Faults       []Fault     `json:"faults,omitempty"`
	EndsWithin   int64       `json:"ends_within,omitempty"` // ns in which every workload must end, once the faults are over; 0 is any
	Attackers    []Attackers `json:"attackers,omitempty"`
	Blobs        Blobs       `json:"blobs,omitzero"`
}

// Network is where peers are and how long messages take: half of the round trip
// between two regions, the access of both ends, and jitter.
type Network struct {
	Regions []Region    `json:"regions"`
	RTT     [][]int64   `json:"rtt"`    // ns, from a region to a region
	Access  chance.Dist `json:"access"` // ns one way, drawn once for each peer
	Jitter  int64       `json:"jitter"` // ppm of the delay: the mean of an exponential part
	Loss    int64       `json:"loss"`   // ppm of packets; each costs a probe timeout
	// Bandwidth is nil where lines carry all that there is at once.
	Bandwidth   *Bandwidth   `json:"bandwidth,omitempty"`
	Connections *Connections `json:"connections,omitempty"` // nil: everybody is connected to everybody
	NAT         *NAT         `json:"nat,omitempty"`         // nil: everybody can be dialled
	Gossip      *Gossip      `json:"gossip,omitempty"`      // nil: digests are everywhere at once
	DHT         bool         `json:"dht,omitempty"`         // leaders look nodes up that no sibling cell has
}

// Region is a place and how many of the peers are there, relative to others.
type Region struct {
	Name  string `json:"name"`
	Share int64  `json:"share"`
}

// Machine is a class of machines and how many of the peers are of it, relative
// to others.
type Machine struct {
	Name    string      `json:"name"`
	Share   int64       `json:"share"`
	Cores   int         `json:"cores"`
	Threads int         `json:"threads"` // of a core
	Memory  int64       `json:"memory"`
	Disk    int64       `json:"disk"`
	Speed   chance.Dist `json:"speed"` // permille of the reference core, drawn once for each peer
	Price   chance.Dist `json:"price"` // base ask of a core, drawn once for each peer
	Slope   int64       `json:"slope"` // permille; pricing.Config.Slope
	// SMT is the speed of all threads of a core at once against one of them alone,
	// permille; 0 is what production assumes unmeasured (pricing.Default).
	SMT int64 `json:"smt,omitempty"`
	// Idle and Busy are the power without work and with all threads in use, in mW; 0 is
	// not known.
	Idle int64 `json:"idle,omitempty"`
	Busy int64 `json:"busy,omitempty"`
}

// Workloads is a stream of similar workloads. Exactly one of Poisson and Clients is set.
type Workloads struct {
	Name     string             `json:"name"`
	Poisson  int64              `json:"poisson"` // thousandths of arrivals a second
	Clients  int                `json:"clients"` // closed loop: each submits, waits for the end and thinks
	Think    chance.Dist        `json:"think"`   // ns
	Tasks    int                `json:"tasks"`
	Shape    workload.Resources `json:"shape"`
	Service  chance.Dist        `json:"service"`   // ns of a task on a reference core
	MaxPrice int64              `json:"max_price"` // micro-credits per slot-second; 0 is no limit
	Timeout  int64              `json:"timeout"`   // ns
	Bursts   []Burst            `json:"bursts,omitempty"`
	VerifyBy *workload.VerifyBy `json:"verify_by,omitempty"` // nil is one run of each task
	Program  int64              `json:"program,omitempty"`   // bytes, the same content for all of the stream
	Inputs   chance.Dist        `json:"inputs,omitzero"`     // bytes, of each workload its own
	Runner   string             `json:"runner,omitempty"`    // one of Wasm and so on, or ""
	Start    chance.Dist        `json:"start,omitzero"`      // ns; zero is the scenario's
	// Arrivals are of a trace, in order. Poisson, Tasks and Service are then their
	// means, for estimates.
	Arrivals []Arrival `json:"arrivals,omitempty"`
}

// Arrival is one workload of a trace.
type Arrival struct {
	At      int64 `json:"at"`      // ns
	Tasks   int   `json:"tasks"`   // of which each takes
	Service int64 `json:"service"` // ns on a reference core
	Owner   int   `json:"owner"`   // modulo the scenario's owners
}

// Burst is a while in which Times as many workloads come.
type Burst struct {
	At    int64 `json:"at"`    // ns
	For   int64 `json:"for"`   // ns
	Times int64 `json:"times"` // permille
}

// Churn is how peers come and go. A zero Session is never.
type Churn struct {
	Session    chance.Dist `json:"session"` // ns until a peer leaves
	Absence    chance.Dist `json:"absence"` // ns until it is back
	Departures []Departure `json:"departures"`
}

// Departure is peers that leave at once.
type Departure struct {
	At    int64 `json:"at"`    // ns
	Share int64 `json:"share"` // ppm of all peers
	Back  int64 `json:"back"`  // ns after which they return; 0 is never
}

// Costs is what a peer spends on a message; signatures are charged, not computed.
type Costs struct {
	Verify  int64       `json:"verify"`  // ns of CPU for a signature
	Sign    int64       `json:"sign"`    // ns of CPU
	Message int64       `json:"message"` // ns of CPU for each message that a leader handles
	Fsync   chance.Dist `json:"fsync"`   // ns for a log entry to be durable on one disk
}

// Cells is how ledgers are kept: ended workloads beyond Keep that are older than
// AtOnce become tombs, by the production rule.
type Cells struct {
	Keep   int   `json:"keep"`
	AtOnce int64 `json:"at_once"` // ns
}

// MaxArrivals bounds the rows of a trace, MaxTasks the tasks of a workload.
const (
	MaxArrivals = 200_000
	MaxTasks    = 10_000
)

// MaxAt bounds when a row of a trace comes after its beginning, and MaxService how
// long each of its tasks takes, both in ns.
const (
	MaxAt      = 10 * 365 * 24 * hour
	MaxService = 365 * 24 * hour
)

// MaxReplications bounds the replications of a study.
const MaxReplications = 1000

// Other bounds of a scenario.
const (
	maxPeers      = 4_000_000
	maxStreams    = 256
	maxRegions    = 512
	maxClients    = 1_000_000
	maxDepartures = 1024
	maxBursts     = 1024
)

const (
	ms      = int64(1_000_000)
	second  = 1000 * ms
	hour    = 3600 * second
	million = 1_000_000
)

// Default returns the values of fields that are left out. Costs are of a 2026
// server core (an Ed25519 signature and its verification by crypto/ed25519) and of
// docs/performance.md; a start is that of a native task in its sandbox.
func Default() Scenario {
	return Scenario{
		Seed: 1, Replications: 5, Interval: second, CellSize: 64, Voters: 5, Owners: 16, Policy: defaultPolicy(),
		Network: World(),
		Start:   chance.Dist{Kind: chance.LogNormal, A: float64(20 * ms), B: 0.4, Max: 10 * second},
		Costs: Costs{
			Verify: 60_000, Sign: 25_000, Message: 20_000,
			Fsync: chance.Dist{Kind: chance.LogNormal, A: 500_000, B: 0.5, Max: second},
		},
		Cells: Cells{Keep: 100, AtOnce: 10 * second},
	}
}

// defaultMachine is what a class of machines has beside its cores.
func defaultMachine() Machine {
	return Machine{
		Share: 1, Threads: 2, Memory: 32 << 30, Disk: 100 << 30, Speed: chance.Always(1000), Price: chance.Always(1000), Slope: 3000,
	}
}

// defaultWorkloads is what a stream has beside its arrivals and service.
func defaultWorkloads() Workloads {
	return Workloads{Tasks: 1, Shape: workload.DefaultResources(), Timeout: 10 * 60 * second}
}
