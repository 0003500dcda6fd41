package dcap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"embed"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/perrin-mesh/perrin/mesh/attest"
)

//go:embed roots/*.pem
var rootFiles embed.FS

// intelRoot is Intel's own.
var intelRoot = sync.OnceValues(func() (*x509.Certificate, error) {
	b, err := rootFiles.ReadFile("roots/intel.pem")
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("want a certificate")
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	return root, root.CheckSignatureFrom(root)
})

// layout is what may be left out of, or added to, PEM without a change of meaning.
var layout = strings.NewReplacer("\r", "", "\n", "", "\x00", "")

// parseChain reads exactly n certificates in PEM, and nothing else but line ends
// and zero bytes.
func parseChain(b []byte, n int) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	var again []byte
	for block, rest := pem.Decode(b); block != nil && len(out) <= n; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, cert)
		again = append(again, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes})...)
	}
	if len(out) != n || layout.Replace(string(again)) != layout.Replace(string(b)) {
		return nil, fmt.Errorf("want %d certificates in PEM and nothing else, got %d", n, len(out))
	}
	return out, nil
}

// chain is a way from a key to the root: a leaf, who signed it, and so on.
type chain []*x509.Certificate

// followed checks signatures, dates and that it ends at the root.
func (c chain) followed(x *attest.Expect, root *x509.Certificate) error {
	if last := c[len(c)-1]; !bytes.Equal(last.Raw, root.Raw) {
		return fmt.Errorf("the chain does not lead to the root of Intel (but to %.80q)", last.Subject.CommonName)
	}
	for i, cert := range c {
		if len(cert.UnhandledCriticalExtensions) > 0 {
			return fmt.Errorf("certificate %.80q has a critical extension that this node does not know", cert.Subject.CommonName)
		}
		if err := x.ValidAt(cert); err != nil {
			return err
		}
		if i+1 < len(c) && (!bytes.Equal(cert.RawIssuer, c[i+1].RawSubject) || cert.CheckSignatureFrom(c[i+1]) != nil) {
			return fmt.Errorf("certificate %.80q is not signed by the next one", cert.Subject.CommonName)
		}
	}
	return nil
}

// unrevoked holds each certificate against its issuer's list.
func (c chain) unrevoked(f *attest.Finding, e *attest.Evidence, x *attest.Expect) error {
	lists, err := attest.Lists(e, RootListItem, ListItem)
	if err != nil {
		return err
	}
	for i := range len(c) - 1 {
		until, err := x.Unrevoked(lists, c[i+1], c[i])
		if err != nil {
			return err
		}
		if f.Valid(c[i].NotAfter); !until.IsZero() {
			f.Valid(until)
		}
	}
	return nil
}

// key returns the leaf's, on P-256.
func (c chain) key() (*ecdsa.PublicKey, error) {
	key, ok := c[0].PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() || c[0].IsCA {
		return nil, fmt.Errorf("certificate %.80q is not of a key on P-256 that signs no certificates", c[0].Subject.CommonName)
	}
	return key, nil
}

// platform is what Intel's certificate says of a machine (Intel, "SGX PCK
// Certificate and Certificate Revocation List Profile Specification").
type platform struct {
	id     []byte // PPID
	fmspc  string // family, model and so on, in hex
	pceID  string
	pceSVN int
	svn    [16]int // of each component of the firmware
}

// arc is where Intel keeps it.
var arc = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}

// attribute is one entry of the extension.
type attribute struct {
	ID    asn1.ObjectIdentifier
	Value asn1.RawValue
}

// parsePlatform reads the extension of a machine's certificate.
func parsePlatform(cert *x509.Certificate) (*platform, error) {
	i := slices.IndexFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(arc) })
	if i < 0 {
		return nil, errors.New("the certificate is not one of a machine's key: it has no SGX extension")
	}
	all, err := attributes(cert.Extensions[i].Value)
	if err != nil {
		return nil, err
	}
	firmware, err := attributes(all["2"].FullBytes)
	if err != nil {
		return nil, err
	}
	p := &platform{id: all["1"].Bytes, pceID: hex.EncodeToString(all["3"].Bytes), fmspc: hex.EncodeToString(all["4"].Bytes)}
	for n := range p.svn {
		if err := small(firmware[fmt.Sprintf("2.%d", n+1)], &p.svn[n]); err != nil {
			return nil, err
		}
	}
	if err := small(firmware["2.17"], &p.pceSVN); err != nil || len(p.id) != 16 || len(p.fmspc) != 12 || len(p.pceID) != 4 {
		return nil, errors.New("the machine's certificate does not say what machine it is")
	}
	return p, nil
}

func small(v asn1.RawValue, to *int) error {
	if rest, err := asn1.Unmarshal(v.FullBytes, to); err != nil || len(rest) > 0 || *to < 0 || *to > 0xffff {
		return errors.New("the machine's certificate does not say its firmware's version")
	}
	return nil
}

// attributes reads a sequence of entries, by their numbers below arc.
func attributes(der []byte) (map[string]asn1.RawValue, error) {
	var list []attribute
	if rest, err := asn1.Unmarshal(der, &list); err != nil || len(rest) > 0 {
		return nil, errors.New("the SGX extension of the machine's certificate does not read")
	}
	out := map[string]asn1.RawValue{}
	for _, a := range list {
		if len(a.ID) > len(arc) && a.ID[:len(arc)].Equal(arc) {
			out[a.ID[len(arc):].String()] = a.Value
		}
	}
	return out, nil
}
