package tenancy

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/rights"
)

var now = time.UnixMilli(1_780_000_000_000)

func key(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func idOf(n byte) workload.PeerID {
	return workload.PeerIDOf(key(n).Public().(ed25519.PublicKey))
}

func token(owner, to byte, may ...rights.Capability) []workload.Signed {
	d := rights.Delegation{Version: rights.Version(), Subject: idOf(owner), Audience: idOf(to), May: may,
		NotBefore: now.UnixMilli(), Expires: now.Add(time.Hour).UnixMilli()}
	return []workload.Signed{workload.Sign(workload.DomainToken, wire.MustMarshal(d), key(owner))}
}

func TestAWorkloadIsItsOwnersAndWhomItGaveAToken(t *testing.T) {
	const owner, home, guest, other = 1, 2, 3, 4
	w := Workload{ID: workload.ID{Cell: workload.CellID{7}}, Owner: idOf(owner), Home: idOf(home)}
	observe := token(owner, guest, rights.Observe)
	for name, c := range map[string]struct {
		from  byte
		token []workload.Signed
		do    rights.Capability
		at    time.Time
		want  error
	}{
		"its home":             {home, nil, rights.Operate, now, nil},
		"a guest who reads":    {guest, observe, rights.Observe, now, nil},
		"a guest who stops":    {guest, observe, rights.Operate, now, wire.Refused},
		"a guest without":      {guest, nil, rights.Observe, now, wire.NotYours},
		"a thief of the token": {other, observe, rights.Observe, now, wire.Refused},
		"too late":             {guest, observe, rights.Observe, now.Add(2 * time.Hour), wire.Refused},
		"another's token":      {guest, token(other, guest, rights.Observe), rights.Observe, now, wire.NotYours},
	} {
		j := Judge{Memo: workload.NewMemo()}
		if err := j.May(idOf(c.from), c.token, c.do, w, c.at); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if err := (Judge{Mesh: workload.MeshID{1}}).May(idOf(guest), observe, rights.Observe, w, now); !errors.Is(err, wire.Refused) {
		t.Errorf("a token of another mesh: %v", err)
	}
}
