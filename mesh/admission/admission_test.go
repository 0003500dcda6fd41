package admission

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

var epoch = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// seeded is a key made from one byte, so that fuzz seeds stay valid.
func seeded(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
}

func idOf(key ed25519.PrivateKey) workload.PeerID {
	return workload.PeerIDOf(key.Public().(ed25519.PublicKey))
}

var (
	rootKey, operatorKey, nodeKey, joinKey = seeded(1), seeded(2), seeded(3), seeded(4)
	testMesh                               = MeshOf(idOf(rootKey))
)

func operatorCert(t testing.TB) workload.Signed {
	t.Helper()
	cert, err := IssueOperator(rootKey, idOf(operatorKey), "op", epoch)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func goodBundle(t testing.TB) Bundle {
	t.Helper()
	cert, err := IssueNode(operatorKey, testMesh, idOf(nodeKey), "n", epoch)
	if err != nil {
		t.Fatal(err)
	}
	return Bundle{Root: idOf(rootKey), Operator: operatorCert(t), Node: cert}
}

func TestChainIsJudged(t *testing.T) {
	good := goodBundle(t)
	id, err := good.Verify(testMesh, idOf(nodeKey), epoch)
	if err != nil || id.Name != "n" || id.OperatorName != "op" || !id.NotAfter.Equal(epoch.Add(NodeTTL)) {
		t.Fatalf("a good chain: %+v, %v", id, err)
	}
	swapped, foreignRoot, byNode, asOperator := good, good, good, good
	swapped.Operator, swapped.Node = good.Node, good.Operator
	foreignRoot.Root = idOf(seeded(9))
	byNode.Node = sign(nodeKey, certificate{Version: 1, Kind: kindNode, Mesh: testMesh, Subject: idOf(nodeKey), Name: "n", NotAfter: 1 << 50})
	asOperator.Operator = sign(nodeKey, certificate{Version: 1, Kind: kindOperator, Mesh: testMesh, Subject: idOf(nodeKey), Name: "n", NotAfter: 1 << 50})
	otherMeshInside := good
	otherMeshInside.Node = sign(operatorKey, certificate{Version: 1, Kind: kindNode, Mesh: workload.MeshID{1}, Subject: idOf(nodeKey), Name: "n", NotAfter: 1 << 50})
	for name, c := range map[string]struct {
		b    Bundle
		peer workload.PeerID
		at   time.Time
		want error
	}{
		"nothing":                    {Bundle{}, idOf(nodeKey), epoch, ErrNotAdmitted},
		"another peer's":             {good, idOf(joinKey), epoch, ErrNotAdmitted},
		"another root":               {foreignRoot, idOf(nodeKey), epoch, ErrOtherMesh},
		"another mesh inside":        {otherMeshInside, idOf(nodeKey), epoch, ErrOtherMesh},
		"certificates swapped":       {swapped, idOf(nodeKey), epoch, ErrForged},
		"signed by the node itself":  {byNode, idOf(nodeKey), epoch, ErrForged},
		"an operator made of itself": {asOperator, idOf(nodeKey), epoch, ErrForged},
		"a day and the skew later":   {good, idOf(nodeKey), epoch.Add(NodeTTL + ClockSkew + time.Second), ErrExpired},
		"long before it was made":    {good, idOf(nodeKey), epoch.Add(-Backdate - ClockSkew - time.Second), ErrExpired},
	} {
		if _, err := c.b.Verify(testMesh, c.peer, c.at); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
		if Hint(c.want) == "" {
			t.Errorf("%v has no hint", c.want)
		}
	}
	for name, at := range map[string]time.Time{"just late": epoch.Add(NodeTTL + ClockSkew), "on a clock behind": epoch.Add(-Backdate - ClockSkew)} {
		if _, err := good.Verify(testMesh, idOf(nodeKey), at); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEveryFlippedByteIsRefused(t *testing.T) {
	raw := goodBundle(t).Encode()
	if len(raw) > MaxBundle {
		t.Fatalf("a bundle takes %d bytes, over %d", len(raw), MaxBundle)
	}
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 0x01
		b, err := DecodeBundle(bad)
		if err != nil {
			continue
		}
		if _, err := b.Verify(testMesh, idOf(nodeKey), epoch); err == nil {
			t.Errorf("byte %d of %d can be changed", i, len(raw))
		}
	}
}

// books is a Store that counts, and can refuse to save.
type memory struct {
	b    []byte
	fail error
}

func (m *memory) Load() ([]byte, error) { return m.b, nil }

func (m *memory) Save(b []byte) error {
	if m.fail == nil {
		m.b = bytes.Clone(b)
	}
	return m.fail
}

func newIssuer(t testing.TB, s Store) *Issuer {
	t.Helper()
	i, err := NewIssuer(idOf(nodeKey), idOf(rootKey), operatorCert(t), operatorKey, s)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

var addrs = []string{"/ip4/192.0.2.1/udp/4001/quic-v1", "/ip6/2001:db8::1/tcp/4001"}

func TestTokenSaysWhatIsWrongWithIt(t *testing.T) {
	v, err := newIssuer(t, &memory{}).Invite(1, time.Hour, addrs, epoch)
	if err != nil {
		t.Fatal(err)
	}
	text, err := v.Token()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseToken(" " + strings.ToUpper(text[:40]) + "\n  " + text[40:] + "\n")
	if err != nil || got.Secret != v.Secret || got.Mesh() != testMesh || got.Issuer != idOf(nodeKey) || strings.Join(got.Addrs, " ") != strings.Join(addrs, " ") {
		t.Fatalf("got %+v, %v", got, err)
	}
	for i := len(tokenPrefix); i < len(text); i++ {
		typo := []byte(text)
		typo[i] = 'a' + (typo[i]-'a'+1)%26
		if typo[i] == text[i] {
			typo[i] = 'q'
		}
		if _, err := ParseToken(string(typo)); !errors.Is(err, ErrTokenTypo) {
			t.Errorf("character %d: got %v, want %v", i, err, ErrTokenTypo)
		}
	}
	for text, want := range map[string]error{
		"":                         ErrTokenForm,
		"hello":                    ErrTokenForm,
		"12D3KooW":                 ErrTokenForm,
		"perrin2-abcdef":           ErrTokenVersion,
		"perrin1-":                 ErrTokenTypo,
		"perrin1-0189":             ErrTokenTypo,
		text[:len(text)-3]:         ErrTokenTypo,
		strings.Repeat("a", 1<<20): ErrTokenForm,
	} {
		_, err := ParseToken(text)
		if !errors.Is(err, want) {
			t.Errorf("%.20q: got %v, want %v", text, err, want)
		}
		if Hint(err) == "" {
			t.Errorf("%v has no hint", err)
		}
	}
	if err := got.Check(workload.MeshID{}, epoch.Add(2*time.Hour)); !errors.Is(err, ErrTokenExpired) {
		t.Errorf("late: got %v", err)
	}
	if err := got.Check(workload.MeshID{1}, epoch); !errors.Is(err, ErrOtherMesh) {
		t.Errorf("a machine of another mesh: got %v", err)
	}
}

func request(t testing.TB, v Invitation, key ed25519.PrivateKey) JoinRequest {
	t.Helper()
	req, err := v.Request(idOf(key), "new")
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func TestInvitationIsGoodForItsUses(t *testing.T) {
	store := &memory{}
	i := newIssuer(t, store)
	v, err := i.Invite(2, time.Hour, addrs, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(store.b, v.Secret[:]) {
		t.Error("the issuer keeps the secret")
	}
	first := request(t, v, joinKey)
	b, err := i.Admit(idOf(joinKey), first, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := b.Verify(testMesh, idOf(joinKey), epoch); err != nil || id.Name != "new" {
		t.Errorf("got %+v, %v", id, err)
	}
	if _, err := i.Admit(idOf(seeded(5)), first, epoch); !errors.Is(err, ErrTokenUnknown) {
		t.Errorf("the proof replayed by another peer: got %v, want %v", err, ErrTokenUnknown)
	}
	renamed := first
	renamed.Name = "root"
	if _, err := i.Admit(idOf(joinKey), renamed, epoch); !errors.Is(err, ErrTokenUnknown) {
		t.Errorf("the proof under another name: got %v, want %v", err, ErrTokenUnknown)
	}
	i = newIssuer(t, store) // the node restarts
	if _, err := i.Admit(idOf(joinKey), first, epoch); err != nil {
		t.Errorf("the same peer again: %v", err)
	}
	if _, err := i.Admit(idOf(seeded(5)), request(t, v, seeded(5)), epoch); err != nil {
		t.Errorf("the second use: %v", err)
	}
	if _, err := i.Admit(idOf(seeded(6)), request(t, v, seeded(6)), epoch); !errors.Is(err, ErrTokenUsed) {
		t.Errorf("the third use of two: got %v, want %v", err, ErrTokenUsed)
	}
	if n := i.OpenInvitations(epoch); n != 0 {
		t.Errorf("%d invitations are open, want 0", n)
	}
}

func TestAnUseCountsOnlyOnceItIsOnDisk(t *testing.T) {
	store := &memory{}
	i := newIssuer(t, store)
	v, err := i.Invite(1, time.Hour, addrs, epoch)
	if err != nil {
		t.Fatal(err)
	}
	store.fail = errors.New("disk full")
	if b, err := i.Admit(idOf(joinKey), request(t, v, joinKey), epoch); !errors.Is(err, store.fail) || !b.IsZero() {
		t.Errorf("got %v with the disk full", err)
	}
	if _, err := i.Invite(1, time.Hour, addrs, epoch); !errors.Is(err, store.fail) {
		t.Errorf("an invitation that is not on disk: got %v", err)
	}
	store.fail = nil
	if _, err := i.Admit(idOf(joinKey), request(t, v, joinKey), epoch); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

func TestIssuerRefuses(t *testing.T) {
	i := newIssuer(t, &memory{})
	v, err := i.Invite(1, time.Hour, addrs, epoch)
	if err != nil {
		t.Fatal(err)
	}
	unknown, otherMesh, badName := v, request(t, v, joinKey), request(t, v, joinKey)
	unknown.Secret = [16]byte{1}
	otherMesh.Mesh = workload.MeshID{1}
	badName.Name = "a/b"
	for name, c := range map[string]struct {
		req  JoinRequest
		at   time.Time
		want error
	}{
		"an unknown secret": {request(t, unknown, joinKey), epoch, ErrTokenUnknown},
		"no proof":          {JoinRequest{Mesh: testMesh, Name: "x"}, epoch, ErrTokenUnknown},
		"another mesh":      {otherMesh, epoch, ErrOtherMesh},
		"a bad name":        {badName, epoch, ErrName},
		"too late":          {request(t, v, joinKey), epoch.Add(2 * time.Hour), ErrTokenExpired},
	} {
		_, err := i.Admit(idOf(joinKey), c.req, c.at)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
		if got := Refuse(err).Err(); !errors.Is(got, c.want) {
			t.Errorf("%s crosses the wire as %v", name, got)
		}
	}
	for _, c := range []struct {
		uses int
		ttl  time.Duration
	}{{0, time.Hour}, {MaxUses + 1, time.Hour}, {1, 0}, {1, MaxInviteTTL + 1}} {
		if _, err := i.Invite(c.uses, c.ttl, addrs, epoch); err == nil {
			t.Errorf("%d uses within %s were allowed", c.uses, c.ttl)
		}
	}
	for range MaxInvitations - 1 {
		if _, err := i.Invite(1, time.Hour, addrs, epoch); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := i.Invite(1, time.Hour, addrs, epoch); !errors.Is(err, ErrTooMany) {
		t.Errorf("one too many: got %v, want %v", err, ErrTooMany)
	}
	if _, err := i.Invite(1, time.Hour, addrs, epoch.Add(3*time.Hour)); err != nil {
		t.Errorf("once the others have ended: %v", err)
	}
}

func TestRenewalHasAGrace(t *testing.T) {
	i := newIssuer(t, &memory{})
	old := goodBundle(t)
	for _, after := range []time.Duration{0, 10 * 24 * time.Hour} {
		b, err := i.Admit(idOf(nodeKey), Renewal(old), epoch.Add(after))
		if err != nil {
			t.Fatalf("after %s: %v", after, err)
		}
		if _, err := b.Verify(testMesh, idOf(nodeKey), epoch.Add(after+NodeTTL)); err != nil {
			t.Errorf("after %s: %v", after, err)
		}
	}
	if _, err := i.Admit(idOf(nodeKey), Renewal(old), epoch.Add(40*24*time.Hour)); !errors.Is(err, ErrExpired) {
		t.Errorf("after the grace: got %v", err)
	}
	if _, err := i.Admit(idOf(joinKey), Renewal(old), epoch); !errors.Is(err, ErrNotAdmitted) {
		t.Errorf("another peer's bundle: got %v", err)
	}
}

func TestKeysArePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	key, err := LoadOrCreateKey(dir, NodeKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadOrCreateKey(dir, NodeKeyFile)
	if err != nil || !key.Equal(again) {
		t.Errorf("the key changed: %v", err)
	}
	for path, want := range map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, NodeKeyFile): 0o600} {
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: mode %v, want %v (%v)", path, st.Mode(), want, err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, NodeKeyFile), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(dir, NodeKeyFile); !errors.Is(err, ErrKeyFile) || Hint(err) == "" {
		t.Errorf("a key that others may read: got %v", err)
	}
	if err := WriteFile(dir, "bad.key", []byte("-----BEGIN PRIVATE KEY-----\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(dir, "bad.key"); !errors.Is(err, ErrKeyFile) {
		t.Errorf("not a key: got %v", err)
	}
	if _, err := LoadKey(dir, "none.key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: got %v", err)
	}
	s := FileStore{Dir: dir, Name: "invitations"}
	if b, err := s.Load(); err != nil || b != nil {
		t.Errorf("an empty store holds %q, %v", b, err)
	}
	if err := s.Save([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if b, err := s.Load(); err != nil || string(b) != "x" {
		t.Errorf("got %q, %v", b, err)
	}
}

func FuzzDecodeBundle(f *testing.F) {
	good := goodBundle(f)
	f.Add(good.Encode())
	f.Add([]byte{0xa0})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := DecodeBundle(raw)
		if err != nil {
			return
		}
		id, err := b.Verify(testMesh, idOf(nodeKey), epoch)
		if err == nil && (id.Name != "n" || id.Operator != idOf(operatorKey)) {
			t.Errorf("an identity was made up: %+v", id)
		}
	})
}

func FuzzParseToken(f *testing.F) {
	v := Invitation{Root: idOf(rootKey), Issuer: idOf(nodeKey), Addrs: addrs, Secret: [16]byte{1, 2, 3}, Expires: epoch}
	text, err := v.Token()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("perrin1-")
	f.Add("perrin9-aaaa")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseToken(s)
		if err != nil {
			return
		}
		again, err := v.Token()
		if err != nil {
			t.Fatalf("a token that parses does not print: %v", err)
		}
		if w, err := ParseToken(again); err != nil || w.Secret != v.Secret || w.Root != v.Root {
			t.Errorf("%q prints as %q, which is %+v, %v", s, again, w, err)
		}
	})
}

func FuzzJoinRequest(f *testing.F) {
	i := newIssuer(f, &memory{})
	f.Add([]byte("name"), []byte("proof"))
	f.Fuzz(func(t *testing.T, name, mac []byte) {
		req := JoinRequest{Mesh: testMesh, Name: string(name), Proof: mac}
		if _, err := i.Admit(idOf(joinKey), req, epoch); err == nil {
			t.Errorf("%q with proof %x was admitted without an invitation", name, mac)
		}
	})
}
