package attestor

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/mesh/attest/attesttest"
	"github.com/perrin-mesh/perrin/mesh/attest/collect"
	"github.com/perrin-mesh/perrin/workload"
)

// TestMadeUpMachines has a node show evidence of made-up confidential machines
// over the protocol: whatever the operator's folder says, it proves nothing.
func TestMadeUpMachines(t *testing.T) {
	amd, intel := attesttest.NewSEV(t, "Milan-B0", true), attesttest.NewIntel(t)
	from, until := attesttest.Epoch, attesttest.Epoch.AddDate(9, 0, 0)
	tsm := attesttest.NewTSM(t, t.TempDir(), "tdx_guest")
	tsm.Make = func(data [64]byte) ([]byte, []byte, error) { return intel.QuoteOf(4, data, nil), nil, nil }
	kept := &collect.Collateral{Dir: t.TempDir()}
	put(t, kept.Dir, "tdx-tcb-50806f000000.json", intel.Document("tcbInfo", attesttest.TCBInfo("TDX", from, until)))
	put(t, kept.Dir, "tdx-tcb-50806f000000.json.chain", attesttest.PEM(intel.TCBCert, intel.Root.Cert))
	put(t, kept.Dir, "tdx-qe-identity.json", intel.Document("enclaveIdentity", attesttest.Identity("TD_QE", from, until)))
	table := append([]byte("\xa8\x07\x4b\xc2\xa2\x5a\x48\x3e\xaa\xe6\x39\xc0\x45\xa0\xb8\xa1\x30\x00\x00\x00"), byte(len(amd.Cert.Raw)), byte(len(amd.Cert.Raw)>>8), 0, 0)
	sev := func(data [64]byte) ([]byte, []byte, error) {
		return amd.Report(data, nil), slices.Concat(table, make([]byte, 24), amd.Cert.Raw), nil
	}
	policy := t.TempDir()
	for name, c := range map[string]*x509.Certificate{"amd.pem": amd.Root.Cert, "issuer.pem": amd.Issuer.Cert, "intel.pem": intel.Root.Cert} {
		put(t, policy, name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	put(t, policy, PolicyFile, []byte("without_lists: true\n"))
	for kind, c := range map[workload.Level]struct {
		files collect.Files
		says  string
	}{
		workload.LevelSNP: {collect.Files{SEV: sev}, "the certificate leads to no root of AMD"},
		workload.LevelTDX: {collect.Files{TSM: tsm, Collateral: kept}, "the chain does not lead to the root of Intel"},
	} {
		answerer := New(config(2, collect.New(c.files), ""))
		p, err := pair(config(1, collect.Of(), policy), answerer).Ask(t.Context(), workload.PeerID{2}, Question{Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		if a := p.Appraisal; a.Kind != kind || a.Level != workload.LevelNone || len(a.Fails) != 1 || !strings.Contains(a.Fails[0], c.says) {
			t.Errorf("%s: proved %s, fails %q", kind, a.Level, a.Fails)
		}
		if err := p.Appraisal.Meet(&workload.Require{Level: workload.LevelTPM, MaxAge: 1000}, p.Appraisal.At); err == nil {
			t.Errorf("%s: it meets what a spec requires", kind)
		}
	}
}
