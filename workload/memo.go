package workload

import (
	"crypto/ed25519"
	"crypto/sha256"
	"sync"
)

// Memo remembers signatures that verified, since one statement is looked at
// several times on its way through a node: when it arrives, when the log entry
// that carries it is applied, when it is acted upon. What it answers is what
// Signed.Verify would. Only good signatures are remembered, at most 2 x
// memoSize of them (64 bytes each). A nil Memo remembers nothing. Its methods
// are safe for concurrent use.
type Memo struct {
	mu       sync.Mutex
	now, old map[[sha256.Size]byte]struct{}
}

const memoSize = 8192

// NewMemo returns an empty memo.
func NewMemo() *Memo {
	return &Memo{now: map[[sha256.Size]byte]struct{}{}}
}

// Verify is s.Verify(domain).
func (m *Memo) Verify(domain Domain, s Signed) error {
	if m == nil || unsigned(domain) || len(s.Sig) != ed25519.SignatureSize {
		return s.Verify(domain)
	}
	key := memoKey(domain, &s)
	if m.knows(key) {
		return nil
	}
	if err := s.Verify(domain); err != nil {
		return err
	}
	m.add(key)
	return nil
}

// Sign is Sign, and remembers the result: one's own signature is good.
func (m *Memo) Sign(domain Domain, payload []byte, key ed25519.PrivateKey) Signed {
	s := Sign(domain, payload, key)
	if m != nil && !unsigned(domain) {
		m.add(memoKey(domain, &s))
	}
	return s
}

// memoKey is a hash over all that a signature is about. The payload goes last:
// what stands before it ends where it must.
func memoKey(domain Domain, s *Signed) (key [sha256.Size]byte) {
	h := sha256.New()
	h.Write([]byte(domain))
	h.Write([]byte{0})
	h.Write(s.By[:])
	h.Write(s.Sig)
	h.Write(s.Payload)
	h.Sum(key[:0])
	return key
}

func (m *Memo) knows(key [sha256.Size]byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, known := m.now[key]
	if !known {
		_, known = m.old[key]
	}
	return known
}

func (m *Memo) add(key [sha256.Size]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.now) >= memoSize {
		m.old, m.now = m.now, map[[sha256.Size]byte]struct{}{}
	}
	m.now[key] = struct{}{}
}
