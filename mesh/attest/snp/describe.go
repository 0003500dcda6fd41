package snp

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/perrin-mesh/perrin/mesh/attest"
)

// The names of the keys that sign reports, as AMD's server has them.
const (
	KeyOfChip  = "vcek"
	KeyOfCloud = "vlek"
)

// About is what a report says of the certificates that belong to it.
type About struct {
	Key     string // KeyOfChip or KeyOfCloud
	product string // as AMD's server has it; empty when the report does not say
	chip    string
	tcb     attest.SNPTCB
}

// Describe reads a report without trusting it, to find what belongs to it.
func Describe(b []byte) (*About, error) {
	r, err := parseReport(b)
	if err != nil {
		return nil, err
	}
	if zero(r.chip) && r.signer == signedByChip {
		return nil, errors.New("the host hides which chip this is (MASK_CHIP_ID), so that no report can be verified")
	}
	a := &About{Key: KeyOfChip}
	if r.signer == signedByCloud {
		a.Key = KeyOfCloud
	}
	chip := r.chip
	switch family, model := b[0x188], b[0x189]; {
	case r.version < 3: // it does not say
	case family == 0x19 && model < 0x10:
		a.product = "Milan"
	case family == 0x19 && (model < 0x20 || model >= 0xa0 && model < 0xb0):
		a.product = "Genoa"
	case family == 0x1a && model < 0x20:
		a.product, chip = "Turin", r.chip[:8]
	}
	a.chip = hex.EncodeToString(chip)
	a.tcb = tcbOf(map[bool]string{true: "turin"}[a.product == "Turin"], r.reportedTCB)
	return a, nil
}

const server = "https://kdsintf.amd.com/"

// CertURL is where AMD publishes the certificate of the chip's key at its
// firmware's version; it is empty for a cloud's key, which the host has, and
// where the report does not say its product.
func (a *About) CertURL() string {
	if a.Key != KeyOfChip || a.product == "" {
		return ""
	}
	t := a.tcb
	text := fmt.Sprintf("%svcek/v1/%s/%s?blSPL=%d&teeSPL=%d&snpSPL=%d&ucodeSPL=%d", server, a.product, a.chip, t.Bootloader, t.TEE, t.SNP, t.Microcode)
	if a.product == "Turin" {
		text += fmt.Sprintf("&fmcSPL=%d", t.FMC)
	}
	return text
}

// CertFile names the file that keeps it.
func (a *About) CertFile() string {
	t := a.tcb
	return fmt.Sprintf("%s-%.16s-%d-%d-%d-%d-%d.der", a.Key, a.chip, t.FMC, t.Bootloader, t.TEE, t.SNP, t.Microcode)
}

// ListURL is where AMD publishes the product's revocation list.
func (a *About) ListURL() string {
	if a.product == "" {
		return ""
	}
	return server + a.Key + "/v1/" + a.product + "/crl"
}

// ListFile names the file that keeps it.
func (a *About) ListFile() string { return "amd-" + a.Key + "-" + a.product + ".crl" }
