package oracle_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oasisprotocol/oasis-core/go/common/sgx/pcs"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/mesh/attest/dcap"
	"github.com/perrin-mesh/perrin/workload"
)

// recorded is a real quote with Intel's real documents, as oasis-core carries it.
type recorded struct {
	kind                   workload.Level
	quote, info, id, chain []byte
	at                     time.Time
}

// folder is where the module's files lie.
func folder(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/oasisprotocol/oasis-core/go").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "common", "sgx", "pcs", "testdata")
}

func load(t *testing.T, kind workload.Level, at int64, quote, info, id string) *recorded {
	t.Helper()
	dir := folder(t)
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	r := &recorded{kind: kind, at: time.Unix(at, 0), quote: read(quote), info: read(info), id: read(id), chain: read("tcb_info_v3_fmspc_00606A000000_certs.pem")}
	if kind == workload.LevelTDX { // its keeper put something behind one
		r.quote = r.quote[:636+binary.LittleEndian.Uint32(r.quote[632:])]
	}
	return r
}

func sgx(t *testing.T) *recorded {
	return load(t, workload.LevelSGX, 1671497404, "quote_v3_ecdsa_p256_pck_chain.bin", "tcb_info_v3_fmspc_00606A000000.json", "qe_identity_v2.json")
}

func tdx(t *testing.T) *recorded {
	return load(t, workload.LevelTDX, 1725263032, "quote_v4_tdx_ecdsa_p256.bin", "tcb_info_v3_tdx_fmspc_C0806F000000.json", "qe_identity_v2_tdx2.json")
}

// ours is what our verifier says. The quotes were made for somebody else's report
// data, so one failure is always there; it is taken out of fails.
func ours(t *testing.T, r *recorded) (a *workload.Appraisal, fails []string) {
	t.Helper()
	e := &attest.Evidence{Version: attest.Version, Kind: r.kind, Report: r.quote, Extra: []attest.Item{
		{Name: dcap.TCBItem, Data: r.info}, {Name: dcap.IdentityItem, Data: r.id}, {Name: dcap.SignerItem, Data: r.chain}}}
	a = dcap.Verify(e, &attest.Expect{Binding: &attest.Binding{}, Now: r.at, Policy: &attest.Policy{WithoutLists: true}})
	if a.Level != workload.LevelNone {
		t.Fatalf("a quote that was made for somebody else proves %s", a.Level)
	}
	fails = slices.DeleteFunc(slices.Clone(a.Fails), func(f string) bool { return strings.Contains(f, "made for another nonce") })
	return a, fails
}

// theirs is what oasis-core says.
func theirs(r *recorded) error {
	var quote pcs.Quote
	if err := quote.UnmarshalBinary(r.quote); err != nil {
		return err
	}
	bundle := pcs.TCBBundle{Certificates: r.chain}
	if err := json.Unmarshal(r.info, &bundle.TCBInfo); err != nil {
		return err
	}
	if err := json.Unmarshal(r.id, &bundle.QEIdentity); err != nil {
		return err
	}
	_, err := quote.Verify(&pcs.QuotePolicy{TCBValidityPeriod: 30, TDX: &pcs.TdxQuotePolicy{}}, r.at, &bundle)
	return err
}

// TestBothTake holds that both take the real quotes, and what we read of them.
func TestBothTake(t *testing.T) {
	for r, want := range map[*recorded]string{
		sgx(t): "mrenclave=68823bc62f409ee33a32ea270cfe45d4b19a6fb3c8570d7bc186cbe062398e8f",
		tdx(t): "mrtd=",
	} {
		a, fails := ours(t, r)
		if err := theirs(r); err != nil || len(fails) > 0 {
			t.Errorf("%s: we say %q, oasis-core %v", r.kind, fails, err)
		}
		if a.Trust.Instance != attest.InstanceKnown || a.Trust.Hardware >= attest.HardwareRefused || !strings.HasPrefix(a.Measurements[0].String(), want) {
			t.Errorf("%s: %+v, measured %s", r.kind, a.Trust, a.Measurements)
		}
		t.Logf("%s: %s, graded %+v, notes %q", r.kind, a.TCB, a.Trust, a.Notes)
	}
}

// TestBothRefuse holds verdicts side by side where documents, times and quotes do
// not belong together.
func TestBothRefuse(t *testing.T) {
	old := load(t, workload.LevelTDX, 1687091776, "quote_v4_tdx_ecdsa_p256_out_of_date.bin", "tcb_info_v3_tdx_fmspc_50806F000000.json", "qe_identity_v2_tdx.json")
	bare := sgx(t)
	dir := folder(t)
	bare.quote, _ = os.ReadFile(filepath.Join(dir, "quote_v3_ecdsa_p256_eppid.bin"))
	swapped := sgx(t)
	swapped.info = tdx(t).info
	identity := tdx(t)
	identity.id = sgx(t).id
	chain := sgx(t)
	chain.chain, _ = os.ReadFile(filepath.Join(dir, "tcb_info_v3_fmspc_00606A000000_certs_bad.pem"))
	for name, r := range map[string]*recorded{"old firmware": old, "no chain": bare, "TCB information of another": swapped, "identity of another": identity, "bad signers": chain} {
		_, fails := ours(t, r)
		err := theirs(r)
		if err == nil || len(fails) == 0 {
			t.Errorf("%s: we say %q, oasis-core %v", name, fails, err)
		}
		t.Logf("%s: we say %q, oasis-core %v", name, fails, err)
	}
	for _, at := range []int64{1670238720, 1671194735, 1671194737, 1673786735, 1673786740, 1891163522} { // as oasis-core's own tests have them
		r := sgx(t)
		r.at = time.Unix(at, 0)
		_, fails := ours(t, r)
		if err := theirs(r); (err == nil) != (len(fails) == 0) {
			t.Errorf("at %d: we say %q, oasis-core %v", at, fails, err)
		}
	}
}

// TestFlipped changes every byte of the real quotes: neither takes one, or we are
// the stricter.
func TestFlipped(t *testing.T) {
	for _, r := range []*recorded{sgx(t), tdx(t)} {
		whole, stricter := r.quote, 0
		for i := range whole {
			bad := *r
			bad.quote = bytes.Clone(whole)
			bad.quote[i] ^= 1 << (i % 8)
			a, fails := ours(t, &bad)
			if len(fails) == 0 || a.Trust.Instance == attest.InstanceKnown {
				t.Errorf("%s, byte %d changed: still genuine", r.kind, i)
			}
			if theirs(&bad) == nil {
				stricter++
			}
		}
		t.Logf("%s: of %d changed bytes, oasis-core takes %d", r.kind, len(whole), stricter)
	}
}
