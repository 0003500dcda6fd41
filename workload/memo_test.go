package workload

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"
)

// A memo answers as the signature does, whatever it has seen before.
func TestMemo(t *testing.T) {
	_, key, _ := ed25519.GenerateKey(bytes.NewReader(make([]byte, 64)))
	m := NewMemo()
	good := m.Sign(DomainBid, []byte("a bid"), key)
	foreign := Sign(DomainBid, []byte("another bid"), key)
	forged := good
	forged.Payload = []byte("a better bid")
	short := good
	short.Sig = short.Sig[:63]
	for range 2 {
		for name, c := range map[string]struct {
			s      Signed
			domain Domain
			ok     bool
		}{
			"own": {good, DomainBid, true}, "another's": {foreign, DomainBid, true}, "another domain": {good, DomainAward, false},
			"another payload": {forged, DomainBid, false}, "a short signature": {short, DomainBid, false},
		} {
			for which, memo := range map[string]*Memo{"memo": m, "no memo": nil} {
				if err := memo.Verify(c.domain, c.s); (err == nil) != c.ok || !c.ok && !errors.Is(err, ErrSignature) {
					t.Errorf("%s, %s: %v", name, which, err)
				}
			}
		}
	}
	for i := range 3 * memoSize {
		m.add([32]byte{byte(i), byte(i >> 8), byte(i >> 16)})
	}
	if n := len(m.now) + len(m.old); n > 2*memoSize {
		t.Errorf("remembers %d", n)
	}
	if err := m.Verify(DomainBid, good); err != nil {
		t.Errorf("forgotten: %v", err)
	}
}
