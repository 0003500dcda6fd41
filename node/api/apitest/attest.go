package apitest

import (
	"bytes"
	"context"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// Attest implements api.Backend: ben has a TPM that the operator trusts, carl
// one that is not trusted, and anna none; cloud1 is an SEV-SNP machine, and
// cloud2 a TDX machine whose firmware is old.
func (f *Fake) Attest(_ context.Context, node string) (*api.Attest, error) {
	if node == "" {
		node = nodeNames[0]
	}
	none := "there is no TPM 2.0 (/dev/tpmrm0 does not exist); a PC has one when it is switched on in the firmware's settings"
	out := &api.Attest{Node: Peer(node), Name: node, Self: node == nodeNames[0], SameRules: true, Policy: "/var/lib/perrin/attest",
		Abilities: []workload.Ability{{Kind: workload.LevelTPM, Can: node != nodeNames[0]}, {Kind: workload.LevelSNP, Why: "this is not an AMD SEV-SNP virtual machine"}}}
	a := &out.Appraisal
	*a = workload.Appraisal{Node: out.Node, By: Peer(nodeNames[0]), Kind: workload.LevelTPM, Level: workload.LevelNone, Status: workload.TierWarning,
		At: time.Date(2026, 11, 23, 9, 12, 44, 0, time.UTC).UnixMilli(), Channel: true, Instance: workload.DigestOf([]byte(node)), Evidence: workload.DigestOf([]byte(node)),
		TCB: "TPM firmware 7.2.3.1", Measurements: []workload.Measurement{{Name: "pcr7", Value: bytes.Repeat([]byte{0x5a}, 32)}}}
	switch node {
	case "anna":
		out.Abilities[0].Why = none
		*a = workload.Appraisal{Node: a.Node, By: a.By, Kind: workload.LevelNone, Level: workload.LevelNone, Status: workload.TierNone, At: a.At, Notes: []string{none}}
		out.Told = []api.Told{{To: Peer("ben"), Name: "ben", Kind: workload.LevelTPM, At: time.Date(2026, 11, 23, 9, 12, 40, 0, time.UTC)}}
	case "ben":
		a.Level, a.Notes = workload.LevelTPM, []string{"the chip is genuine: its maker: Chips of Test"}
		a.Trust = workload.Trust{Instance: 2, Config: 3, Executables: 33, Hardware: 2, Runtime: 32}
	case "carl":
		a.Status, a.Fails = workload.TierContraindicated, []string{"its endorsement key has no certificate of a maker, and is not one that the operator listed"}
		a.Trust = workload.Trust{Instance: 2, Hardware: 97, Runtime: 32}
	case "cloud1":
		out.Abilities = nil
		a.Kind, a.Level, a.TCB = workload.LevelSNP, workload.LevelSNP, "Milan, fmc 0, bootloader 4, tee 0, snp 24, microcode 219"
		a.Trust = workload.Trust{Instance: 2, Config: 3, Executables: 33, Hardware: 2, Runtime: 2}
		a.Measurements = []workload.Measurement{{Name: "launch", Value: bytes.Repeat([]byte{0xb0}, 48)}}
	case "cloud2":
		out.Abilities = nil
		a.Kind, a.Status, a.Fails = workload.LevelTDX, workload.TierContraindicated, []string{"its firmware is OutOfDate, and the policy takes UpToDate (tdx.status)"}
		a.Trust = workload.Trust{Instance: 2, Config: 3, Executables: 33, Hardware: 96, Runtime: 2}
	default:
		return nil, api.Errorf(api.NotFound, "no node %.80q in this cell", node)
	}
	return out, nil
}
