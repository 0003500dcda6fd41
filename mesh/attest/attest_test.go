package attest_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/workload"
)

func sample() *attest.Evidence {
	return &attest.Evidence{Version: attest.Version, Kind: workload.LevelTPM, Report: []byte{1}, Chain: []attest.Blob{{Data: []byte{2}}}, PCRs: []attest.PCR{{Index: 1, Value: make([]byte, 32)}}}
}

func TestDecodeRefuses(t *testing.T) {
	for says, change := range map[string]func(*attest.Evidence){
		"version 2":                  func(e *attest.Evidence) { e.Version = 2 },
		`kind "magic"`:               func(e *attest.Evidence) { e.Kind = "magic" },
		"Report: 65537 long":         func(e *attest.Evidence) { e.Report = make([]byte, 65537) },
		"Chain: 9 long, at most 8":   func(e *attest.Evidence) { e.Chain = make([]attest.Blob, 9) },
		"Value: 33 long, at most 32": func(e *attest.Evidence) { e.PCRs[0].Value = make([]byte, 33) },
		"bytes, at most":             func(e *attest.Evidence) { e.FileLog = make([]byte, attest.MaxEvidence) },
	} {
		e := sample()
		change(e)
		if _, err := attest.Decode(e.Encode()); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want an error that says %q, got %v", says, err)
		}
	}
}

// TestEachPartIsBound changes one part of a binding at a time: no two have the
// same report data.
func TestEachPartIsBound(t *testing.T) {
	bindings := []attest.Binding{
		{}, {Version: 1}, {Nonce: [32]byte{1}}, {Asker: workload.PeerID{1}}, {Node: workload.PeerID{1}}, {Channel: []byte{1}},
		{Sealing: attest.SealingKey(nil)}, {Job: workload.ID{Random: [16]byte{1}}}, {Award: workload.AuctionID{1}},
	}
	seen := map[[64]byte]int{}
	for i, b := range bindings {
		data := b.ReportData()
		if other, twice := seen[data]; twice {
			t.Errorf("bindings %d and %d have the same report data", other, i)
		}
		seen[data] = i
	}
}

// TestNoTPMIsTrustedByDefault holds that no software TPM proves anything where
// the operator has not said so.
func TestNoTPMIsTrustedByDefault(t *testing.T) {
	var p attest.Policy
	if len(p.TPMRoots)+len(p.TPMKeys) != 0 {
		t.Errorf("the policy that nobody changed accepts %+v", p)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(sample().Encode())
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := attest.Decode(b)
		if err == nil && !slices.Equal(e.Encode(), b) {
			if again, err := attest.Decode(e.Encode()); err != nil || again.Kind != e.Kind {
				t.Errorf("accepted once, refused again: %v", err)
			}
		}
	})
}
