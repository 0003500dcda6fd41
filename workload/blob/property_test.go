package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
	"pgregory.net/rapid"
)

// machine is a store with little room beside a model of it: what was put into
// it, what is pinned, and what must therefore still be there.
type machine struct {
	dir    string
	store  *Store
	origin *Store // has every content
	bodies [][]byte
	refs   []workload.Ref
	pins   map[string]map[int]bool
	held   map[int]bool // was here when it was pinned, or came after: must stay
}

const machineLimit = 3 << 20

func (m *machine) reopen(t *rapid.T) {
	if m.store != nil {
		if err := errors.Join(m.store.Sync(), m.store.Close()); err != nil { // without Sync, what was put as logged would be gone
			t.Fatal(err)
		}
	}
	s, err := Open(m.dir, machineLimit, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for owner, set := range m.pins {
		for i := range set {
			s.Pin(owner, m.refs[i])
		}
	}
	s.AllowEviction()
	m.store = s
}

func (m *machine) pinned(i int) bool { return m.pins["a"][i] || m.pins["b"][i] }

// arrived notes that content i is here, or that there was no room for it.
func (m *machine) arrived(t *rapid.T, i int, err error) {
	switch {
	case err == nil && m.pinned(i):
		m.held[i] = true
	case errors.Is(err, ErrFull) && (!m.held[i] || m.refs[i].Size > workload.ChunkSize): // a stream needs room before its name is known
	case err != nil:
		t.Fatalf("content %d: %v", i, err)
	}
}

// check holds what is always true.
func (m *machine) check(t *rapid.T) {
	u := m.store.Usage()
	if u.Bytes > machineLimit || u.Reserved != 0 || u.Pinned > u.Bytes {
		t.Fatalf("usage %+v", u)
	}
	var sum int64
	for i, ref := range m.refs {
		here := m.store.Has(ref)
		if m.held[i] && !here {
			t.Fatalf("content %d is pinned and gone", i)
		}
		if !here {
			continue
		}
		sum += m.store.whole[ref].bytes
	}
	if sum != u.Bytes {
		t.Fatalf("charged with %d bytes, has %d", u.Bytes, sum)
	}
}

func TestStoreAgreesWithItsModel(t *testing.T) {
	base := t.TempDir()
	origin := open(t, t.TempDir(), roomy)
	var bodies [][]byte
	var refs []workload.Ref
	for i, n := range []int{0, 10, 5000, 300 << 10, 700 << 10, workload.ChunkSize, workload.ChunkSize + 1, 2*workload.ChunkSize - 5} {
		bodies = append(bodies, content(i, n))
		refs = append(refs, put(t, origin, bodies[i]))
	}
	source := []Source{&plain{origin}}
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		m := &machine{dir: fmt.Sprintf("%s/%d", base, runs), origin: origin, bodies: bodies, refs: refs, pins: map[string]map[int]bool{"a": {}, "b": {}}, held: map[int]bool{}}
		m.reopen(t)
		defer os.RemoveAll(m.dir)
		defer func() { m.store.Close() }()
		which := rapid.IntRange(0, len(bodies)-1)
		owner := rapid.SampledFrom([]string{"a", "b"})
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				i := which.Draw(t, "content")
				_, err := m.store.Put(context.Background(), bytes.NewReader(bodies[i]))
				m.arrived(t, i, err)
			},
			"putPinned": func(t *rapid.T) {
				i, o := which.Draw(t, "content"), owner.Draw(t, "owner")
				_, err := m.store.PutBytesPinned(o, bodies[i])
				if err == nil {
					m.pins[o][i] = true
				}
				m.arrived(t, i, err)
			},
			"putLogged": func(t *rapid.T) {
				i, o := which.Draw(t, "content"), owner.Draw(t, "owner")
				_, err := m.store.PutLogged(o, bodies[i])
				if err == nil {
					m.pins[o][i] = true
				}
				m.arrived(t, i, err)
			},
			"sync": func(t *rapid.T) {
				i := which.Draw(t, "content")
				if err := m.store.Sync(refs[i]); err != nil && !errors.Is(err, ErrNotFound) {
					t.Fatal(err)
				}
			},
			"path": func(t *rapid.T) {
				i := which.Draw(t, "content")
				name, err := m.store.Path(refs[i])
				if err != nil && (errors.Is(err, ErrNotFound) && !m.held[i] || errors.Is(err, ErrFull)) {
					return
				}
				if got, err2 := os.ReadFile(name); err != nil || err2 != nil || !bytes.Equal(got, bodies[i]) {
					t.Fatalf("content %d: %d bytes, %v, %v", i, len(got), err, err2)
				}
			},
			"fetch": func(t *rapid.T) {
				i := which.Draw(t, "content")
				m.arrived(t, i, m.store.Fetch(context.Background(), refs[i], source))
			},
			"pin": func(t *rapid.T) {
				i, o := which.Draw(t, "content"), owner.Draw(t, "owner")
				m.store.Pin(o, refs[i])
				m.pins[o][i] = true
				if m.store.Has(refs[i]) {
					m.held[i] = true
				}
			},
			"unpin": func(t *rapid.T) {
				o := owner.Draw(t, "owner")
				m.store.Unpin(o)
				was := m.pins[o]
				m.pins[o] = map[int]bool{}
				for i := range was {
					m.held[i] = m.held[i] && m.pinned(i)
				}
			},
			"read": func(t *rapid.T) {
				i := which.Draw(t, "content")
				got, err := m.store.ReadAll(refs[i], refs[i].Size)
				if m.held[i] && err != nil || err == nil && !bytes.Equal(got, bodies[i]) || err != nil && !errors.Is(err, ErrNotFound) {
					t.Fatalf("content %d: %d bytes, %v", i, len(got), err)
				}
			},
			"reopen": m.reopen,
			"":       m.check,
		})
	})
}

// plain is a plain source.
type plain struct{ *Store }

func (*plain) Name() string { return "origin" }

func (o *plain) Manifest(_ context.Context, ref workload.Ref) ([]byte, error) {
	return o.Store.Manifest(ref)
}

func (o *plain) Chunk(_ context.Context, ref workload.Ref, i int, _ []byte) ([]byte, error) {
	return o.Store.Chunk(ref, i)
}
