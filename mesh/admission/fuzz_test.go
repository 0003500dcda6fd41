package admission

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// FuzzKeyFile reads arbitrary bytes as the file of a key.
func FuzzKeyFile(f *testing.F) {
	dir := f.TempDir()
	key := seeded(1)
	if err := SaveKey(dir, "k", key); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, "k"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(filepath.Join(dir, "k"), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		key, err := LoadKey(dir, "k")
		if err != nil && !errors.Is(err, ErrKeyFile) {
			t.Errorf("%v, want ErrKeyFile", err)
		}
		if err == nil && len(key) != 64 {
			t.Errorf("a key of %d bytes", len(key))
		}
	})
}

// shelfOf is a Store of one text.
type shelfOf struct{ raw []byte }

// Load implements Store.
func (s *shelfOf) Load() ([]byte, error) { return s.raw, nil }

// Save implements Store.
func (s *shelfOf) Save(raw []byte) error { s.raw = raw; return nil }

// FuzzBooks opens arbitrary bytes as the books of an issuer. With books that
// open it still invites, admits whom it invited once, and saves books that open.
func FuzzBooks(f *testing.F) {
	cert := operatorCert(f)
	open := func(raw []byte) (*Issuer, *shelfOf, error) {
		s := &shelfOf{raw: raw}
		i, err := NewIssuer(idOf(nodeKey), idOf(rootKey), cert, operatorKey, s)
		return i, s, err
	}
	i, s, err := open(nil)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := i.Invite(3, time.Hour, addrs, epoch); err != nil {
		f.Fatal(err)
	}
	f.Add(s.raw)
	f.Add(wire.MustMarshal(books{Invitations: []invitationEntry{{Uses: -1}, {Uses: 1 << 30, Expires: 1 << 62}}}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		i, s, err := open(raw)
		if err != nil {
			return
		}
		v, err := i.Invite(1, time.Hour, addrs, epoch)
		if err != nil {
			return // the books are full
		}
		admitted := 0
		for n := range 2 {
			guest := workload.PeerID{byte(n + 1)}
			req, err := v.Request(guest, "guest")
			if err != nil {
				t.Fatal(err)
			}
			if _, err = i.Admit(guest, req, epoch); err == nil {
				admitted++
			}
		}
		if admitted > 1 {
			t.Errorf("an invitation for one let %d in", admitted)
		}
		if _, _, err := open(s.raw); err != nil {
			t.Errorf("its own books do not open: %v", err)
		}
	})
}

// FuzzStatements gives arbitrary bytes to a node as what the root and operators
// said: nothing counts that they did not sign, and what does survives a restart.
func FuzzStatements(f *testing.F) {
	tr := newTrust(f)
	doc, err := tr.Deny(operatorKey, operatorCert(f), Denial{Peer: idOf(nodeKey), Reason: "lost"}, epoch)
	if err != nil {
		f.Fatal(err)
	}
	charter, err := SignCharter(rootKey, Charter{}.With(Operator{idOf(operatorKey), idOf(joinKey), "op", 1}, epoch), epoch)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wire.MustMarshal(Statements{Charter: &charter, Denials: []SignedDenial{doc}}))
	f.Add(wire.MustMarshal(Statements{Denials: []SignedDenial{doc, doc}}))
	f.Add(wire.MustMarshal(Statements{}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var s Statements
		if wire.Unmarshal(raw, &s) != nil {
			return
		}
		store := &shelfOf{}
		tr, err := NewTrust(idOf(rootKey), store)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Merge(s, epoch); err != nil && Hint(err) == "" {
			t.Errorf("%v has no hint", err)
		}
		for _, d := range tr.List(epoch) {
			if d.By != idOf(operatorKey) || d.Peer != idOf(nodeKey) {
				t.Errorf("a denial was made up: %+v", d)
			}
		}
		again, err := NewTrust(idOf(rootKey), store)
		if err != nil || again.Digest(epoch) != tr.Digest(epoch) {
			t.Errorf("after a restart it differs: %v", err)
		}
	})
}
