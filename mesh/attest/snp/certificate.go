package snp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"embed"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/perrin-mesh/perrin/mesh/attest"
)

//go:embed roots/*.pem
var rootFiles embed.FS

// maker signs keys of one product: AMD's root, and below it who signs for chips
// or for clouds.
type maker struct {
	product      string // milan, genoa or turin
	signer       uint32 // signedByChip or signedByCloud
	issuer, root *x509.Certificate
}

// makers are AMD's own.
var makers = sync.OnceValues(func() ([]maker, error) {
	var out []maker
	for _, product := range []string{"milan", "genoa", "turin"} {
		for signer, name := range []string{signedByChip: "vcek", signedByCloud: "vlek"} {
			b, err := rootFiles.ReadFile("roots/" + product + "-" + name + ".pem")
			if err != nil {
				return nil, err
			}
			m := maker{product: product, signer: uint32(signer)}
			if m.issuer, m.root, err = parseMaker(b); err != nil {
				return nil, fmt.Errorf("%s-%s: %w", product, name, err)
			}
			out = append(out, m)
		}
	}
	return out, nil
})

// parseMaker reads an issuer and its root, and checks that one signed the other.
func parseMaker(b []byte) (issuer, root *x509.Certificate, err error) {
	first, rest := pem.Decode(b)
	second, _ := pem.Decode(rest)
	if first == nil || second == nil {
		return nil, nil, errors.New("want two certificates")
	}
	if issuer, err = x509.ParseCertificate(first.Bytes); err != nil {
		return nil, nil, err
	}
	if root, err = x509.ParseCertificate(second.Bytes); err != nil {
		return nil, nil, err
	}
	return issuer, root, errors.Join(issuer.CheckSignatureFrom(root), root.CheckSignatureFrom(root))
}

// endorsement is what AMD says of the key that signed a report.
type endorsement struct {
	cert *x509.Certificate
	key  *ecdsa.PublicKey
	by   maker
	tcb  attest.SNPTCB
	chip []byte // identifier of the chip; nil of a cloud's key
}

// parseEndorsement reads the certificate of the key.
func parseEndorsement(chain []attest.Blob) (*endorsement, error) {
	if len(chain) != 1 {
		return nil, fmt.Errorf("want one certificate, of the key that signed the report, got %d", len(chain))
	}
	cert, err := x509.ParseCertificate(chain[0].Data)
	if err != nil {
		return nil, fmt.Errorf("the certificate of the key that signed: %w", err)
	}
	e := &endorsement{cert: cert}
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil, errors.New("the certificate is not of a P-384 key")
	}
	if e.key = key; cert.IsCA || len(cert.UnhandledCriticalExtensions) > 0 {
		return nil, errors.New("the certificate is not one of an SEV-SNP machine's key")
	}
	return e, nil
}

// follow finds who signed the certificate, and reads what it then says.
func (e *endorsement) follow(signer uint32, from []maker) error {
	for _, m := range from {
		if m.signer == signer && bytes.Equal(e.cert.RawIssuer, m.issuer.RawSubject) && e.cert.CheckSignatureFrom(m.issuer) == nil {
			e.by = m
			return e.parseExtensions()
		}
	}
	return fmt.Errorf("the certificate leads to no root of AMD (its issuer: %.80s)", e.cert.Issuer.CommonName)
}

// arc is where AMD keeps what it says of a key (AMD 57230, the extensions of a VCEK).
var arc = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}

// parseExtensions reads what the certificate says of product, firmware and chip.
func (e *endorsement) parseExtensions() error {
	ext := map[string][]byte{}
	for _, x := range e.cert.Extensions {
		if len(x.Id) > len(arc) && x.Id[:len(arc)].Equal(arc) {
			ext[x.Id[len(arc):].String()] = x.Value
		}
	}
	var product string
	if rest, err := asn1.UnmarshalWithParams(ext["2"], &product, "ia5"); err != nil || len(rest) > 0 {
		return errors.New("the certificate names no product")
	}
	if !strings.HasPrefix(strings.ToLower(product), e.by.product) {
		return fmt.Errorf("the certificate is of product %.20q, and signed by the key of %s", product, e.by.product)
	}
	for id, to := range map[string]*uint8{"3.1": &e.tcb.Bootloader, "3.2": &e.tcb.TEE, "3.3": &e.tcb.SNP, "3.8": &e.tcb.Microcode, "3.9": &e.tcb.FMC} {
		var v int
		rest, err := asn1.Unmarshal(ext[id], &v)
		switch {
		case id == "3.9" && ext[id] == nil && e.by.product != "turin":
		case err != nil || len(rest) > 0 || v < 0 || v > 255:
			return fmt.Errorf("the certificate does not say the firmware's version (extension %s)", id)
		default:
			*to = uint8(v)
		}
	}
	return e.parseChip(ext["4"], ext["5"])
}

// parseChip reads the chip's identifier, which a chip's key has and a cloud's has not.
func (e *endorsement) parseChip(raw, cloud []byte) error {
	if e.by.signer == signedByCloud {
		if raw != nil || cloud == nil {
			return errors.New("the certificate is not one of a cloud's key")
		}
		return nil
	}
	if n := len(raw); n != 8 && n != 64 { // AMD leaves the tag out
		if rest, err := asn1.Unmarshal(raw, &e.chip); err != nil || len(rest) > 0 || len(e.chip) != 8 && len(e.chip) != 64 {
			return errors.New("the certificate does not name its chip")
		}
		return nil
	}
	e.chip = raw
	return nil
}

// names reports whether the certificate is of the chip that a report names, or
// of no chip at all. Turin's identifiers are 8 bytes long.
func (e *endorsement) names(chip []byte) bool {
	return e.chip == nil || bytes.Equal(e.chip, chip[:len(e.chip)]) && zero(chip[len(e.chip):])
}
