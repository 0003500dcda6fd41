package node

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/mesh/attest/collect"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/load"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// Config is what a node is started with. Data is needed, the rest has defaults.
type Config struct {
	Data   string            // folder of keys, ledger, blobs and slots
	Socket string            // of the local API; "" serves none
	Mode   uint32            // permissions of the socket
	Name   string            // for people; "" keeps the one of the certificate
	Listen []string          // multiaddrs; nil listens on every interface
	Labels map[string]string // what --where can ask of this node

	// Cores and Memory declare a capacity in place of the machine's own, for
	// several daemons that share one machine. First is the core to begin at.
	Cores  int
	First  int
	Memory int64 // bytes; 0 is the machine's, less a tenth

	// KeepCores and KeepMemory are what the machine's owner keeps of it; of the
	// cores idle time is lent all the same. SpareOnly lends idle time alone. In
	// Quiet hours nothing is lent and nothing new is taken.
	KeepCores  int
	KeepMemory int64 // bytes
	SpareOnly  bool
	Quiet      load.Hours

	CellSize  int           // members of a cell at most: 1 to 128, default 64
	BlobLimit int64         // bytes of content on disk, default 10 GiB
	Stream    int64         // bytes of stdout, and of stderr, that a task may print, default 1 GiB
	LeaseTTL  time.Duration // default 9 s; all nodes of a cell should agree
	MDNS      bool          // look for peers on the local network
	Loopback  bool          // peers are on this machine only
	Pprof     bool          // serve /debug/pprof on the socket

	// Kinds are the programs that the node gets ready for; nil is all. Each costs
	// a self-test at the start, that of a virtual machine a second.
	Kinds []workload.Kind

	// Runners stand in for the machine's own when they are set, for measurements
	// and simulations: then nothing is isolated, and no process apart from the
	// node ends what outlives its lease.
	Runners map[workload.Kind]runner.Runner

	// Keep is the rule by which this node, while it leads, has ended workloads
	// compacted; nil is ledger.Rule.
	Keep *ledger.Compact

	// Measure has the node measure its cores among themselves when it starts for
	// the first time, for two seconds (gauge), where it has hyperthreads or several
	// kinds of core. Without, defaults hold.
	Measure bool

	// Attests makes evidence of the machine; nil is this one's own hardware.
	Attests *collect.Machine

	// appraise replaces the rule by which evidence counts; only tests of this package can
	// set it, for makers that they make up.
	appraise func(*attest.Evidence, *attest.Expect) *workload.Appraisal

	// Watched is the machine whose load says what is idle; nil is this one.
	Watched *load.Machine

	// Given replaces the machine that the node runs on; nil is this one. It needs
	// Runners.
	Given *Given

	Version  string
	Settings []api.Setting // the effective configuration, for the API
	Log      *slog.Logger
}

// DefaultCellSize is how many members a cell takes before a second one is founded.
const DefaultCellSize = 64

func (c *Config) fill() {
	if c.CellSize == 0 {
		c.CellSize = DefaultCellSize
	}
	if c.BlobLimit == 0 {
		c.BlobLimit = 10 << 30
	}
	if c.LeaseTTL == 0 {
		c.LeaseTTL = 9 * time.Second
	}
	if c.Mode == 0 {
		c.Mode = 0o600
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Keep == nil {
		c.Keep = ledger.Rule()
	}
	if c.Version == "" {
		c.Version = "dev"
	}
}

// Validate returns an error that names the first setting that is wrong.
func (c *Config) Validate() error {
	switch {
	case c.Data == "":
		return errors.New("data: want a folder")
	case c.CellSize < 1 || c.CellSize > 128:
		return fmt.Errorf("cell-size: want 1 to 128, got %d", c.CellSize)
	case c.Cores < 0 || c.Memory < 0:
		return errors.New("cores and memory: want 0 (the machine's own) or more")
	case c.KeepCores < 0 || c.KeepMemory < 0:
		return errors.New("reserve: want 0 or more cores and memory")
	case c.BlobLimit < 64<<20:
		return fmt.Errorf("blob-limit: want 64 MiB or more, got %d bytes", c.BlobLimit)
	case c.Given != nil && c.Runners == nil:
		return errors.New("given: want runners that start no process")
	case c.Name != "" && !admission.ValidName(c.Name):
		return fmt.Errorf("name: %.80q: want letters, digits, dots and dashes, at most 63", c.Name)
	}
	return nil
}
