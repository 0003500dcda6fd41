package rights

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

const epoch = int64(1_780_000_000_000)

var (
	testMesh = workload.MeshID{1, 2, 3}
	reader   = Reader{Decode: wire.Unmarshal, Verify: func(d workload.Domain, s workload.Signed) error { return s.Verify(d) }}
	hour     = time.Hour.Milliseconds()
)

// key is a key that is the same in every run.
func key(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func idOf(n byte) workload.PeerID {
	return workload.PeerIDOf(key(n).Public().(ed25519.PublicKey))
}

// link is a delegation of subject 1 to a peer.
func link(to byte) Delegation {
	return Delegation{Version: version, Mesh: testMesh, Subject: idOf(1), Audience: idOf(to),
		May: []Capability{Submit, Observe}, NotBefore: epoch, Expires: epoch + 10*hour}
}

func signed(by byte, d Delegation) workload.Signed {
	return workload.Sign(workload.DomainToken, wire.MustMarshal(d), key(by))
}

// chainOf hands a token of subject 1 on along some peers.
func chainOf(peers ...byte) (chain []workload.Signed) {
	by := byte(1)
	for _, to := range peers {
		chain = append(chain, signed(by, link(to)))
		by = to
	}
	return chain
}

func TestTokenAllowsWhatItSays(t *testing.T) {
	one, two := link(2), link(3)
	two.May, two.Limits = []Capability{Observe}, workload.TokenLimits{CPUs: 2}
	one.Limits = workload.TokenLimits{CPUs: 4, MaxPrice: 7}
	two.Only, two.Expires = []workload.ID{{Cell: workload.CellID{9}}}, epoch+hour
	g, err := Open([]workload.Signed{signed(1, one), signed(2, two)}, testMesh, reader)
	if err != nil {
		t.Fatal(err)
	}
	if l := g.Limits(); l != (workload.TokenLimits{CPUs: 2, MaxPrice: 7}) || g.Ends() != epoch+hour {
		t.Errorf("limits %+v, ends %d", l, g.Ends())
	}
	if err := g.Allows(idOf(3), Observe, epoch); err != nil {
		t.Error(err)
	}
	if !g.Covers(idOf(1), two.Only[0]) || g.Covers(idOf(1), workload.ID{}) || g.Covers(idOf(2), two.Only[0]) {
		t.Error("it is about one workload of its subject")
	}
	for name, c := range map[string]struct {
		holder byte
		may    Capability
		at     int64
		want   error
	}{
		"of somebody else": {2, Observe, epoch, ErrNotAllowed},
		"for more":         {3, Submit, epoch, ErrNotAllowed},
		"too early":        {3, Observe, epoch - Skew.Milliseconds() - 1, ErrTime},
		"expired":          {3, Observe, epoch + hour + Skew.Milliseconds() + 1, ErrTime},
	} {
		if err := g.Allows(idOf(c.holder), c.may, c.at); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBadTokensAreRefusedWithTheLinkThatFails(t *testing.T) {
	with := func(change func(*Delegation)) Delegation { d := link(3); change(&d); return d }
	limited := link(2)
	limited.Limits, limited.Only = workload.TokenLimits{Credits: 10}, []workload.ID{{Cell: workload.CellID{1}}}
	after := func(d Delegation) []workload.Signed { return []workload.Signed{signed(1, limited), signed(2, d)} }
	forged := chainOf(2, 3)
	forged[1].Sig = bytes.Clone(forged[0].Sig)
	for name, c := range map[string]struct {
		chain []workload.Signed
		want  error
		says  string
	}{
		"nothing":           {nil, ErrForm, "without a link"},
		"nine links":        {chainOf(2, 3, 4, 5, 6, 7, 8, 9, 10), ErrDepth, "9 links"},
		"more rights":       {after(with(func(d *Delegation) { d.May = []Capability{Operate} })), ErrWidens, "link 2 of 2"},
		"a higher limit":    {after(with(func(d *Delegation) { d.Limits.Credits = 11 })), ErrWidens, "credits"},
		"another workload":  {after(with(func(d *Delegation) { d.Only = []workload.ID{{}} })), ErrWidens, "workload"},
		"a later end":       {after(with(func(d *Delegation) { d.Expires++ })), ErrWidens, "ends after"},
		"a circle":          {append(chainOf(2, 3), signed(3, link(2))), ErrLoop, "link 3 of 3"},
		"back to the owner": {append(chainOf(2), signed(2, link(1))), ErrLoop, "second time"},
		"to its subject":    {chainOf(1), ErrLoop, "own subject"},
		"not by the owner":  {[]workload.Signed{signed(2, link(3))}, ErrChain, "not by its subject"},
		"by another":        {append(chainOf(2), signed(4, link(3))), ErrChain, "link 2 of 2"},
		"another subject":   {append(chainOf(2), signed(2, with(func(d *Delegation) { d.Subject = idOf(5) }))), ErrChain, "about"},
		"another mesh":      {[]workload.Signed{signed(1, with(func(d *Delegation) { d.Mesh = workload.MeshID{} }))}, ErrMesh, "mesh"},
		"forged":            {forged, ErrForged, "link 2 of 2"},
		"no end":            {[]workload.Signed{signed(1, with(func(d *Delegation) { d.Expires = 0 }))}, ErrForm, "ends before"},
		"no right":          {[]workload.Signed{signed(1, with(func(d *Delegation) { d.May = nil }))}, ErrForm, "may"},
		"an unknown right":  {[]workload.Signed{signed(1, with(func(d *Delegation) { d.May = []Capability{"root"} }))}, ErrForm, "root"},
		"a negative limit":  {[]workload.Signed{signed(1, with(func(d *Delegation) { d.Limits.Tasks = -1 }))}, ErrForm, "negative"},
		"another version":   {[]workload.Signed{signed(1, with(func(d *Delegation) { d.Version = 2 }))}, ErrForm, "version"},
	} {
		if _, err := Open(c.chain, testMesh, reader); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(chainOf(2, 3, 4, 5, 6, 7, 8, 9), testMesh, reader); err != nil {
		t.Errorf("eight links: %v", err)
	}
}

func TestEveryFlippedByteOfATokenIsRefused(t *testing.T) {
	text := Text(chainOf(2, 3))
	for i := range text {
		raw := []byte(text)
		raw[i] ^= 1
		chain, err := Parse(string(raw))
		if err != nil {
			continue
		}
		if _, err := Open(chain, testMesh, reader); err == nil {
			t.Errorf("character %d can be changed", i)
		}
	}
}

// FuzzToken reads arbitrary text as a token: what opens was signed by its subject,
// narrows with every link, and reads back as it was written.
func FuzzToken(f *testing.F) {
	f.Add(Text(chainOf(2)))
	f.Add(Text(chainOf(2, 3, 4)))
	f.Add(Text(chainOf(2, 3, 4, 5, 6, 7, 8, 9, 10)))
	f.Add("perrin-token1.")
	f.Fuzz(func(t *testing.T, text string) {
		chain, err := Parse(text)
		if err != nil {
			if !errors.Is(err, ErrForm) && !errors.Is(err, ErrDepth) {
				t.Errorf("%v is of no kind", err)
			}
			return
		}
		if again, err := Parse(Text(chain)); err != nil || Text(again) != Text(chain) {
			t.Errorf("it does not read back: %v", err)
		}
		g, err := Open(chain, testMesh, reader)
		if err != nil {
			return
		}
		if g.Subject != chain[0].By || len(g.Links) > MaxDepth || g.Audience == g.Subject {
			t.Errorf("a token of %s opens for %s", chain[0].By, g.Subject)
		}
		l := g.Limits()
		for i := range g.Links {
			if l.Within(&g.Links[i].Limits) != "" || g.Ends() > g.Links[i].Expires {
				t.Errorf("wider than link %d", i+1)
			}
		}
	})
}
