package tpm

import (
	"crypto/sha256"
	"errors"

	"golang.org/x/crypto/cryptobyte"

	"github.com/perrin-mesh/perrin/mesh/attest"
)

// quote is a TPMS_ATTEST of a quote.
type quote struct {
	signer   []byte // qualified name of the key
	extra    []byte
	resets   uint32 // power cycles since the chip was cleared
	restarts uint32
	firmware uint64
	pcrs     []uint8 // selected, ascending
	digest   []byte  // SHA-256 of their values
}

const (
	generated = 0xff544347 // TPM_GENERATED_VALUE: made by the chip
	stQuote   = 0x8018     // TPM_ST_ATTEST_QUOTE
)

var errQuote = errors.New("the quote is not a well-formed TPMS_ATTEST")

func parseQuote(raw []byte) (*quote, error) {
	s := cryptobyte.String(raw)
	var magic uint32
	var tag uint16
	var signer, extra cryptobyte.String
	if !s.ReadUint32(&magic) || !s.ReadUint16(&tag) {
		return nil, errQuote
	}
	if magic != generated || tag != stQuote {
		return nil, errors.New("what was signed is not a quote that the chip made")
	}
	q := &quote{}
	var clock uint64
	var safe uint8
	if !s.ReadUint16LengthPrefixed(&signer) || !s.ReadUint16LengthPrefixed(&extra) || !s.ReadUint64(&clock) ||
		!s.ReadUint32(&q.resets) || !s.ReadUint32(&q.restarts) || !s.ReadUint8(&safe) || !s.ReadUint64(&q.firmware) || safe > 1 {
		return nil, errQuote
	}
	q.signer, q.extra = signer, extra
	return q, q.parseSelection(&s)
}

// parseSelection reads the one bank that is quoted and its digest.
func (q *quote) parseSelection(s *cryptobyte.String) error {
	var banks uint32
	var hash uint16
	var mask, digest cryptobyte.String
	if !s.ReadUint32(&banks) || banks != 1 || !s.ReadUint16(&hash) || hash != algSHA256 ||
		!s.ReadUint8LengthPrefixed(&mask) || len(mask) != 3 || !s.ReadUint16LengthPrefixed(&digest) || len(digest) != sha256.Size || !s.Empty() {
		return errors.New("the quote does not cover the SHA-256 bank and nothing else")
	}
	for i := range 24 {
		if mask[i/8]&(1<<(i%8)) != 0 {
			q.pcrs = append(q.pcrs, uint8(i))
		}
	}
	q.digest = digest
	return nil
}

// covers reports whether the values that came along are those that were quoted.
func (q *quote) covers(pcrs []attest.PCR) bool {
	if len(pcrs) != len(q.pcrs) {
		return false
	}
	h := sha256.New()
	for i, p := range pcrs {
		if p.Index != q.pcrs[i] || len(p.Value) != sha256.Size {
			return false
		}
		h.Write(p.Value)
	}
	return string(h.Sum(nil)) == string(q.digest)
}
