package node

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/mesh/attest/appraise"
	"github.com/perrin-mesh/perrin/mesh/attest/attesttest"
	"github.com/perrin-mesh/perrin/mesh/attest/collect"
	"github.com/perrin-mesh/perrin/mesh/attest/dcap"
	"github.com/perrin-mesh/perrin/mesh/attest/snp"
	"github.com/perrin-mesh/perrin/node/attestor"
	"github.com/perrin-mesh/perrin/node/notary"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/receipt"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// madeUp are machines of makers that a test makes up, and the operator's folder that goes
// with them.
type madeUp struct {
	t     *testing.T
	amd   *attesttest.SEV
	intel *attesttest.Intel
}

// appraise holds evidence below the made-up makers' roots, by the verifiers that a daemon
// has, in all else.
func (m *madeUp) appraise(e *attest.Evidence, x *attest.Expect) *workload.Appraisal {
	switch e.Kind {
	case workload.LevelSNP:
		return snp.VerifyBelow(e, x, snp.Maker{Product: "milan", PEM: m.amd.Makers()})
	case workload.LevelTDX, workload.LevelSGX:
		return dcap.VerifyBelow(e, x, m.intel.Root.Cert)
	}
	return appraise.Appraise(e, x)
}

// sev is the virtual machine's device, whose host gives the key's certificate along.
func (m *madeUp) sev() *collect.Machine {
	der := m.amd.Cert.Raw
	const vcek = "\x63\xda\x75\x8d\xe6\x64\x45\x64\xad\xc5\xf4\xb9\x3b\xe8\xac\xcd" // its GUID, as in AMD's GHCB specification
	table := append([]byte(vcek+"\x30\x00\x00\x00"), byte(len(der)), byte(len(der)>>8), 0, 0)
	certs := slices.Concat(table, make([]byte, 24), der)
	return collect.New(collect.Files{SEV: func(data [64]byte) ([]byte, []byte, error) { return m.amd.Report(data, nil), certs, nil }})
}

// published is what Intel publishes of a machine, kept as a daemon keeps it.
func (m *madeUp) published(kind, identity string) *collect.Collateral {
	dir, from, until := m.t.TempDir(), attesttest.Epoch, time.Now().AddDate(1, 0, 0)
	for name, b := range map[string][]byte{
		"-tcb-50806f000000.json":       m.intel.Document("tcbInfo", attesttest.TCBInfo(strings.ToUpper(kind), from, until)),
		"-tcb-50806f000000.json.chain": attesttest.PEM(m.intel.TCBCert, m.intel.Root.Cert),
		"-qe-identity.json":            m.intel.Document("enclaveIdentity", attesttest.Identity(identity, from, until)),
	} {
		m.put(filepath.Join(dir, kind+name), b)
	}
	return &collect.Collateral{Dir: dir}
}

func (m *madeUp) tdx() *collect.Machine {
	tsm := attesttest.NewTSM(m.t, m.t.TempDir(), "tdx_guest")
	tsm.Make = func(data [64]byte) ([]byte, []byte, error) { return m.intel.QuoteOf(4, data, nil), nil, nil }
	return collect.New(collect.Files{Root: tsm.Root, TSM: tsm, Collateral: m.published("tdx", "TD_QE")})
}

// sgx is an enclave as Gramine shows it: the quote is of what was written before.
func (m *madeUp) sgx() *collect.Machine {
	root := m.t.TempDir()
	dir := filepath.Join(root, "dev", "attestation")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		m.t.Fatal(err)
	}
	asked, quote := filepath.Join(dir, "user_report_data"), filepath.Join(dir, "quote")
	for _, path := range []string{asked, quote} {
		if err := unix.Mkfifo(path, 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			data, err := os.ReadFile(asked) // waits for who writes
			if err != nil || len(data) != 64 {
				return
			}
			if err := os.WriteFile(quote, m.intel.QuoteOf(3, [64]byte(data), nil), 0); err != nil {
				return
			}
		}
	}()
	m.t.Cleanup(func() { // nothing written ends it
		if out, err := os.OpenFile(asked, os.O_WRONLY, 0); err == nil {
			_ = out.Close()
			<-served
		}
	})
	return collect.New(collect.Files{Root: root, Collateral: m.published("sgx", "QE")})
}

func (m *madeUp) put(path string, b []byte) {
	if err := os.WriteFile(path, b, 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// lists puts current revocation lists of all makers into an operator's folder.
func (m *madeUp) lists(folder string) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		m.t.Fatal(err)
	}
	var out []byte
	for _, a := range []*attesttest.Authority{m.amd.Root, m.intel.Root, m.intel.CA} {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: a.Revoke(time.Now().Add(-time.Hour), time.Now().AddDate(0, 1, 0))})...)
	}
	m.put(filepath.Join(folder, "lists.pem"), out)
}

// TestProvenByConfidentialMachines goes the whole way for SEV-SNP, TDX and SGX: a node is
// asked for a report over the nonce, peers, connection and award of the moment, work that
// requires its level is awarded to it and to no other, and the receipt's evidence holds.
// The machines are made up, with makers of their own: what is not tested is that a real
// one answers as the kernel's headers say.
func TestProvenByConfidentialMachines(t *testing.T) {
	m := &madeUp{t: t, amd: attesttest.NewSEV(t, "Milan-B0", false), intel: attesttest.NewIntel(t)}
	runs := map[workload.Kind]runner.Runner{workload.Wasm: nullRunner{"done\n"}}
	node := func(name string, machine *collect.Machine) Config {
		return Config{Name: name, Cores: 1, Memory: 1 << 30, Attests: machine, Runners: runs, appraise: m.appraise}
	}
	c := startCompany(t, node("owner", collect.Of()), node("snp", m.sev()), node("tdx", m.tdx()), node("sgx", m.sgx()))
	for _, n := range c.nodes { // whoever leads appraises
		m.lists(filepath.Join(n.cfg.Data, AttestFolder))
	}
	b := c.nodes[0].Backend()
	for i, level := range []workload.Level{workload.LevelSNP, workload.LevelTDX, workload.LevelSGX} {
		t.Run(string(level), func(t *testing.T) {
			of := c.nodes[i+1]
			shown, err := b.Attest(t.Context(), of.name)
			if err != nil {
				t.Fatal(err)
			}
			if a := shown.Appraisal; a.Level != level || len(a.Fails) > 0 || !a.Channel {
				t.Errorf("perrin attest %s: proved %s, fails %q, bound to the connection: %v", of.name, a.Level, a.Fails, a.Channel)
			}
			askedAtOnce(t, c.nodes[0], of, level)
			for _, age := range []time.Duration{time.Hour, 0} {
				s := wasmSpec(t, c.nodes[0], noop, 1)
				s.Require = &workload.Require{Level: level, MaxAge: age.Milliseconds()}
				sub, err := b.Submit(t.Context(), s)
				if err != nil {
					t.Fatal(err)
				}
				if w, task := ended(t, b, sub.ID); w.Phase != workload.Succeeded || task.Node != of.self {
					t.Errorf("%s on %s, want %s", w.Phase, task.Node.Short(), of.self.Short())
				}
				provedIn(t, c, sub.ID, level)
			}
		})
	}
}

// provedIn checks that the receipt of a workload holds, and what it says was proved.
func provedIn(t *testing.T, c *company, id workload.ID, level workload.Level) {
	t.Helper()
	raw, err := c.nodes[0].Backend().Receipt(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	r, err := receipt.Verify(notary.Rules(nil), raw, receipt.Options{Root: c.nodes[0].id.bundle.Root, Voters: c.nodes[0].cell.Voters()})
	if err != nil || r.Status() != receipt.Holds || !slices.ContainsFunc(r.Links, func(l receipt.Link) bool {
		return l.Name == "evidence" && strings.HasPrefix(l.Detail, "1 node proved "+string(level))
	}) {
		t.Errorf("%v: %+v", err, r)
	}
}

// askedAtOnce has a node ask another several times at once: each answer is to the question
// that it belongs to.
func askedAtOnce(t *testing.T, asker, of *Node, level workload.Level) {
	t.Helper()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			p, err := asker.attestor.Ask(t.Context(), of.self, attestor.Question{Kind: level})
			if err != nil {
				t.Error(err)
			} else if p.Appraisal.Level != level {
				t.Errorf("asked at once with others it proves %s: %q", p.Appraisal.Level, p.Appraisal.Fails)
			}
		})
	}
	all.Wait()
}
