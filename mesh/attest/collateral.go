package attest

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// What a revocation list, or another document that a maker signs anew from time
// to time, may lack.
var (
	// ErrRevoked is returned when a maker has revoked a certificate.
	ErrRevoked = errors.New("revoked")
	// ErrStale is returned when a document is missing, or not current at the time
	// of the appraisal.
	ErrStale = errors.New("not current")
)

// Lists parses revocation lists (DER) that came along under some names. A name
// that is not there is left out.
func Lists(e *Evidence, names ...string) ([]*x509.RevocationList, error) {
	var out []*x509.RevocationList
	for _, name := range names {
		raw := e.Item(name)
		if raw == nil {
			continue
		}
		l, err := x509.ParseRevocationList(raw)
		if err != nil {
			return nil, fmt.Errorf("the revocation list %.32q: %w", name, err)
		}
		out = append(out, l)
	}
	return out, nil
}

// Unrevoked holds a certificate against the lists of its issuer, those that came
// along and the operator's. It returns until when the newest is current, which is
// the zero time where the policy does without lists, or an error that wraps
// ErrRevoked or ErrStale.
func (x *Expect) Unrevoked(carried []*x509.RevocationList, issuer, cert *x509.Certificate) (until time.Time, err error) {
	why := "there is none"
	for _, l := range append(carried[:len(carried):len(carried)], x.Policy.Revoked...) {
		if !bytes.Equal(l.RawIssuer, issuer.RawSubject) || l.CheckSignatureFrom(issuer) != nil {
			continue
		}
		for _, r := range l.RevokedCertificateEntries {
			if r.SerialNumber.Cmp(cert.SerialNumber) == 0 {
				return until, fmt.Errorf("%w: its maker has revoked certificate %x (%.80s)", ErrRevoked, cert.SerialNumber, cert.Subject.CommonName)
			}
		}
		if late := x.Current(l.ThisUpdate, l.NextUpdate); late != nil {
			why = late.Error()
		} else if l.NextUpdate.After(until) {
			until = l.NextUpdate
		}
	}
	if until.IsZero() && !x.Policy.WithoutLists {
		return until, fmt.Errorf("%w: the revocation list of %.80s: %s", ErrStale, issuer.Subject.CommonName, why)
	}
	return until, nil
}

// Current returns nil when a document issued at one time and to be replaced by
// another is current, and otherwise an error that wraps ErrStale.
func (x *Expect) Current(issued, next time.Time) error {
	const day = "2006-01-02 15:04 MST"
	switch {
	case x.Now.Before(issued):
		return fmt.Errorf("%w: it is of %s, and now is %s: is a clock wrong?", ErrStale, issued.UTC().Format(day), x.Now.UTC().Format(day))
	case x.Now.After(next):
		return fmt.Errorf("%w: it ended at %s", ErrStale, next.UTC().Format(day))
	case x.Policy.CollateralAge > 0 && x.Now.Sub(issued) > x.Policy.CollateralAge:
		return fmt.Errorf("%w: it is of %s, older than collateral_age allows (%s)", ErrStale, issued.UTC().Format(day), x.Policy.CollateralAge)
	}
	return nil
}

// ValidAt returns an error when a certificate is not valid at the time of the
// appraisal.
func (x *Expect) ValidAt(c *x509.Certificate) error {
	switch {
	case x.Now.Before(c.NotBefore):
		return fmt.Errorf("certificate %.80q is not valid before %s", c.Subject.CommonName, c.NotBefore.UTC().Format(time.DateTime))
	case x.Now.After(c.NotAfter):
		return fmt.Errorf("certificate %.80q ended at %s", c.Subject.CommonName, c.NotAfter.UTC().Format(time.DateTime))
	}
	return nil
}

// Allowed holds what was measured against what the operator's policy lists, and
// grades it.
func (f *Finding) Allowed(list []workload.Measurement) {
	switch {
	case len(list) == 0:
		f.Trust.Executables = RuntimeUnknown
		f.Note("what it measured is held against no list: compare it with --measurement, or list it in the policy")
	case f.Holds(list):
		f.Trust.Executables = BootKnown
	default:
		f.Trust.Executables = RuntimeRefused
	}
}

// Holds reports whether what was measured is what the operator's policy lists: of
// one name any value will do, of several names each must be met.
func (f *Finding) Holds(list []workload.Measurement) bool {
	met := map[string]bool{}
	for _, want := range list {
		met[want.Name] = met[want.Name] || slices.ContainsFunc(f.Measurements, func(m workload.Measurement) bool {
			return m.Name == want.Name && bytes.Equal(m.Value, want.Value)
		})
	}
	all := true
	for _, want := range list {
		if ok, said := met[want.Name]; !ok && said {
			all = false
			f.Fail("its %s is not one that the policy of this node lists", want.Name)
			delete(met, want.Name) // say it once
		}
	}
	return all
}
