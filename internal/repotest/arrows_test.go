package repotest

import (
	"strings"
	"testing"
)

// arrow says what the packages of a folder may import of this module. The first
// one that matches a package holds for it.
type arrow struct {
	from string
	may  []string
	why  string
}

// The arrows of the architecture: cmd -> node -> {mesh, consensus, scheduler,
// workload/*} -> workload.
var arrows = []arrow{
	{"workload", nil, "the nouns are shared by everything, so they depend on nothing"},
	{"workload/...", []string{"workload/..."}, "what runs and stores workloads knows of no mesh, cell or price: siblings meet only in node"},
	{"scheduler", []string{"workload", "scheduler/pricing"}, "the market's rules are pure, so that the daemon, every replica and the simulator run the same ones"},
	{"scheduler/...", []string{"workload"}, "capacity, pricing and leases are pure and know nothing of each other"},
	{"consensus/ledger", []string{"workload"}, "applying an entry is pure: what it needs of other packages comes in as Rules"},
	{"consensus/cell", []string{"workload"}, "membership decisions are pure"},
	{"consensus/...", []string{"workload", "consensus/..."}, "Raft runs over any stream and replicates any state: it does not know the mesh"},
	{"mesh/admission", []string{"workload", "workload/rights", "mesh/..."}, "a token's revocation goes with the deny list, and is proved by the token"},
	{"mesh/attest/attesttest/...", []string{"workload", "workload/vm/...", "mesh/..."}, "a test of attestation boots a machine, as a virtual machine's tests do"},
	{"mesh/...", []string{"workload", "mesh/..."}, "the mesh carries messages and does not know what a cell does with them"},
	{"node/...", []string{"workload/...", "scheduler/...", "consensus/...", "mesh/...", "node/..."}, "node is where the parts meet"},
	{"cmd/...", []string{"workload/...", "mesh/admission", "mesh/wire", "node/...", "cmd/...",
		"simulations/external", "simulations/fuzz", "simulations/inspect", "simulations/model", "simulations/rehearsal", "simulations/report", "simulations/scenario", "simulations/scenarios", "simulations/stats", "simulations/study", "simulations/sweep", "simulations/trace"},
		"a command talks to a node, not to its parts; certificates and error kinds it shows to people; `perrin sim` is the simulator's"},
	{"examples/policy/...", []string{"simulations/policy", "simulations/scenario", "simulations/study"}, "a policy for the simulator needs what runs it"},
	{"examples/...", []string{"workload/unit/unitclient", "workload/unit/unitwire", "examples/..."}, "an example is what a user could write"},
	{"internal/bench", []string{"workload/...", "scheduler/...", "consensus/...", "mesh/...", "node/...", "simulations/queue"}, "the benchmark measures every layer"},
	{"internal/...", []string{"internal/..."}, "a check of the repository needs nothing of it"},
	{"simulations/...", []string{"workload/...", "scheduler/...", "consensus/...", "mesh/...", "node/...", "cmd/...", "simulations/..."}, "an experiment may use everything"},
}

// closed folders are imported by nobody but themselves.
var closed = []struct {
	folder, why string
	but         []string // who may all the same
}{
	{"simulations/...", "the product must not depend on an experiment; only the command may start one", []string{"internal/bench", "cmd/perrin", "examples/policy/..."}},
	{"cmd/...", "a command is the end of the line", nil},
	{"examples/...", "examples come and go", nil},
	{"internal/...", "checks are not code", nil},
}

// testOnly folders are imported by tests alone.
var testOnly = []string{"mesh/meshtest", "mesh/attest/attesttest/...", "node/api/apitest", "workload/oci/ocitest", "node/fuzzpeers", "workload/runner/runnertest", "workload/unit/unittest", "workload/vm/vmtest"}

func TestArrows(t *testing.T) {
	for _, p := range modulePackages(t) {
		rule := ruleFor(p.ImportPath)
		if rule == nil {
			t.Errorf("%s: no arrow says what it may import", p.ImportPath)
			continue
		}
		for _, to := range p.Imports {
			if ours(to) && !underAny(to, rule.may) {
				t.Errorf("%s imports %s, but %s", p.ImportPath, to, rule.why)
			}
			if underAny(to, testOnly) && !underAny(p.ImportPath, testOnly) {
				t.Errorf("%s imports %s, which is for tests", p.ImportPath, to)
			}
		}
		for _, to := range append(p.Imports, append(p.TestImports, p.XTestImports...)...) {
			for _, c := range closed {
				if under(to, c.folder) && !under(p.ImportPath, c.folder) && !underAny(p.ImportPath, c.but) {
					t.Errorf("%s imports %s, but %s", p.ImportPath, to, c.why)
				}
			}
		}
	}
}

func ruleFor(path string) *arrow {
	for i := range arrows {
		if under(path, arrows[i].from) {
			return &arrows[i]
		}
	}
	return nil
}

// ours reports whether an import path, stripped of the module's, is of this module.
func ours(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	switch first {
	case ".", "workload", "scheduler", "consensus", "mesh", "node", "cmd", "examples", "simulations":
		return true
	case "internal": // also of the standard library
		return strings.HasPrefix(path, "internal/repotest") || strings.HasPrefix(path, "internal/citest") || strings.HasPrefix(path, "internal/bench") || strings.HasPrefix(path, "internal/wasisuite")
	}
	return false
}

// A dependency has one owner, so that replacing it changes one folder. The
// benchmark uses some bare, as rivals.
var owners = []struct {
	dependency string
	may        []string
	why        string
}{
	{"github.com/libp2p/go-libp2p/...", []string{"mesh/..."}, "only mesh speaks libp2p"},
	{"github.com/libp2p/go-libp2p-kad-dht/...", []string{"mesh/directory"}, "the DHT is rendezvous, behind directory"},
	{"github.com/libp2p/go-libp2p-pubsub/...", []string{"mesh/gossip"}, "gossip is hints, behind gossip"},
	{"github.com/quic-go/quic-go/...", []string{"mesh"}, "what is asked of the QUIC connection itself is experimental: one place"},
	{"github.com/hashicorp/raft/...", []string{"consensus", "consensus/store", "internal/bench"}, "the ledger does not know what replicates it"},
	{"github.com/dgraph-io/badger/v4/...", []string{"consensus/store"}, "one committer owns the disk"},
	{"github.com/tetratelabs/wazero/...", []string{"workload/wasm/...", "internal/bench"}, "a guest runs in the shim, never in the daemon"},
	{"github.com/fxamacker/cbor/v2/...", []string{"mesh/wire"}, "signatures and replay need one encoding"},
	{"github.com/spf13/cobra/...", []string{"cmd/..."}, "flags are the command's business"},
	{"github.com/spf13/pflag/...", []string{"cmd/..."}, "flags are the command's business"},
	{"oras.land/oras-go/v2/...", []string{"workload/oci/source", "workload/oci/ocitest"}, "only the side that names an image speaks to registries"},
	{"github.com/opencontainers/...", []string{"workload/oci/..."}, "past workload/oci an image is a record and layers"},
	{"github.com/klauspost/compress/...", []string{"simulations/parquet", "workload/oci/unpack"}, "only layers and tables are packed by others"},
	{"github.com/goccy/go-yaml/...", []string{"workload/specfile/..."}, "YAML is for people; past specfile there are only specs"},
}

func TestDependenciesHaveOwners(t *testing.T) {
	for _, p := range modulePackages(t) {
		for _, to := range p.Imports {
			for _, o := range owners {
				if under(to, o.dependency) && !underAny(p.ImportPath, o.may) {
					t.Errorf("%s imports %s, but %s", p.ImportPath, to, o.why)
				}
			}
		}
	}
}

// pure packages import workload and the standard library; nothing else.
var pure = []string{
	"workload", "scheduler", "scheduler/capacity", "scheduler/pricing", "scheduler/lease", "consensus/ledger", "consensus/cell",
}

func TestPurePackagesImportOnlyTheStandardLibrary(t *testing.T) {
	seen := 0
	for _, p := range modulePackages(t) {
		if !underAny(p.ImportPath, pure) {
			continue
		}
		seen++
		for _, to := range p.Imports {
			if first, _, _ := strings.Cut(to, "/"); strings.Contains(first, ".") && !ours(to) {
				t.Errorf("%s imports %s: a pure package imports only workload and the standard library", p.ImportPath, to)
			}
		}
	}
	if seen != len(pure) {
		t.Errorf("%d of the %d pure packages are there", seen, len(pure))
	}
}

// What the shim may link besides the workload side of this module: it is
// started for every attempt, and package initialisation is paid each time.
var shimMay = []string{
	"github.com/tetratelabs/wazero/...", "golang.org/x/sys/...", "github.com/elastic/go-seccomp-bpf/...",
	"github.com/landlock-lsm/go-landlock/...", "kernel.org/pub/linux/libs/security/libcap/...", "golang.org/x/net/bpf",
}

func TestShimLinksLittle(t *testing.T) {
	list, err := goList("-deps", "./workload/shim/cmd/perrin-shim")
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 10 {
		t.Fatalf("the shim links %d packages: go list did not see it", len(list))
	}
	for _, p := range list {
		if !p.Standard && !under(p.ImportPath, "workload/...") && !underAny(p.ImportPath, shimMay) {
			t.Errorf("the shim links %s", p.ImportPath)
		}
		if p.ImportPath == "net/http" {
			t.Errorf("the shim links net/http, which is a third of a megabyte of tables")
		}
	}
}
