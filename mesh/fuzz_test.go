package mesh

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

var fuzzTime = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func seeded(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
}

// seededBundle is the same bundle in every run, so that saved inputs stay good.
func seededBundle(t testing.TB) admission.Bundle {
	t.Helper()
	root, operator := idOf(seeded(1)), seeded(2)
	op, err := admission.IssueOperator(seeded(1), idOf(operator), "op", fuzzTime)
	if err != nil {
		t.Fatal(err)
	}
	node, err := admission.IssueNode(operator, admission.MeshOf(root), idOf(seeded(3)), "n", fuzzTime)
	if err != nil {
		t.Fatal(err)
	}
	return admission.Bundle{Root: root, Operator: op, Node: node}
}

func FuzzHello(f *testing.F) {
	good := seededBundle(f)
	trust, err := admission.NewTrust(good.Root, &admission.Memory{})
	if err != nil {
		f.Fatal(err)
	}
	h := &Host{mesh: good.Mesh(), trust: trust, cfg: Config{Now: func() time.Time { return fuzzTime }}}
	f.Add(frame(wire.MustMarshal(helloOf(good))))
	f.Add(frame(wire.MustMarshal(hello{Newest: 3, Oldest: 2})))
	f.Add(frame(wire.MustMarshal(refusal(admission.ErrExpired))))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := readHello(bytes.NewReader(raw))
		if err != nil {
			return
		}
		id, err := h.judge(m, idOf(seeded(3)))
		if err == nil && (id.Name != "n" || id.Mesh != h.mesh) {
			t.Errorf("an identity was made up: %+v", id)
		}
		if _, err := h.judge(m, workload.PeerID{9}); err == nil {
			t.Error("another peer was admitted")
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte{statusOK, 0, 0, 0, 2, 'h', 'i'})
	refused := wire.MustMarshal(wire.Errorf(wire.Refused, "no"))
	f.Add(append(binary.BigEndian.AppendUint32([]byte{statusError}, uint32(len(refused))), refused...))
	f.Add([]byte{statusOK, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{7, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		const limit = 1000
		body, err := decodeAnswer(bytes.NewReader(raw), limit, nil)
		if err == nil && (len(body) > limit || raw[0] != statusOK) {
			t.Errorf("took %d bytes with status %d", len(body), raw[0])
		}
	})
}

func FuzzRequestHead(f *testing.F) {
	f.Add([]byte{0, 0, 0, 5, 0, 0, 0, 100})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, raw []byte) {
		n, wait, err := readRequestHead(bytes.NewReader(raw))
		if err == nil && (n < 0 || wait <= 0 || wait > maxCallTimeout) {
			t.Errorf("size %d, time %s", n, wait)
		}
	})
}

func FuzzPreface(f *testing.F) {
	f.Add(preface("/perrin/echo/1"))
	f.Add([]byte(multistream + "\x03na\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		err := readPreface(bytes.NewReader(raw), "/perrin/echo/1")
		if err == nil && !bytes.HasPrefix(raw, preface("/perrin/echo/1")) {
			t.Errorf("%q was taken for an agreement", raw)
		}
	})
}

func FuzzJoin(f *testing.F) {
	good := seededBundle(f)
	f.Add(frame(wire.MustMarshal(admission.Renewal(good))))
	f.Add(frame([]byte{0xa0}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		req, err := readJoin(bytes.NewReader(raw))
		if err == nil && (len(req.Name) > 64 || len(req.Proof) > 32) {
			t.Errorf("a field is over its bound: %+v", req)
		}
	})
}

// FuzzAnnounced reads arbitrary text as what somebody announces on the local
// network.
func FuzzAnnounced(f *testing.F) {
	f.Add("dnsaddr=/ip4/192.0.2.1/udp/1/quic-v1/p2p/" + idOf(seeded(3)).String())
	f.Add("dnsaddr=/p2p/x\ndnsaddr=/ip4/1.2.3.4\nother=1")
	f.Fuzz(func(t *testing.T, text string) {
		for _, info := range announced(strings.Split(text, "\n")) {
			if _, err := fromLibp2p(info.ID); err != nil && info.ID.Validate() != nil {
				t.Errorf("%q names nobody: %v", text, info)
			}
			if len(info.Addrs) > MaxAddrs {
				t.Errorf("%d addresses", len(info.Addrs))
			}
		}
	})
}
