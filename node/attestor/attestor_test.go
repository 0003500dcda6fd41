package attestor

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/mesh/attest/attesttest"
	"github.com/perrin-mesh/perrin/mesh/attest/collect"
	"github.com/perrin-mesh/perrin/mesh/meshtest"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// pipe is a stream between two nodes of a test.
type pipe struct{ net.Conn }

func (p pipe) CloseWrite() error { return nil }
func (p pipe) Reset() error      { return p.Close() }

func config(self byte, m *collect.Machine, policy string) Config {
	return Config{Self: workload.PeerID{self}, Machine: m, Policy: policy, Rand: rand.Reader, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
}

// pair connects who asks to who answers.
func pair(asker Config, answerer *Attestor) *Attestor {
	asker.Open = func(context.Context, workload.PeerID, string) (mesh.Stream, error) {
		near, far := net.Pipe()
		go answerer.Serve(context.Background(), asker.Self, pipe{far})
		return pipe{near}, nil
	}
	return New(asker)
}

// TestAsk goes from one node's question to the appraisal of another's software
// TPM: untrusted, trusted by the maker's certificate, and by the chip's digest.
func TestAsk(t *testing.T) {
	chip, maker, policy := attesttest.NewChip(t), attesttest.NewMaker(t, "Chips of Test"), t.TempDir()
	cert := maker.Endorse(chip, time.Now().AddDate(1, 0, 0))
	cfg := config(2, collect.New(chip.Files(t.TempDir())), "")
	cfg.Sealing = func(_ workload.ID, key workload.Digest) []byte {
		if key == attest.SealingKey([]byte("public")) {
			return []byte("public")
		}
		return nil
	}
	answerer := New(cfg)
	a := pair(config(1, collect.Of(), policy), answerer)
	ask := func() Proof {
		t.Helper()
		p, err := a.Ask(t.Context(), workload.PeerID{2}, Question{Sealing: attest.SealingKey([]byte("public"))})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := ask(); p.Appraisal.Level != workload.LevelNone || !strings.Contains(p.Appraisal.Fails[0], "no TPM maker that is trusted here") {
		t.Errorf("untrusted: %+v", p.Appraisal)
	}
	put(t, policy, "maker.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: maker.Root.Raw}))
	p := ask()
	if p.Appraisal.Level != workload.LevelTPM || p.Binding.Sealing != attest.SealingKey([]byte("public")) || p.Appraisal.Binding != p.Binding.Digest() {
		t.Errorf("trusted: %+v", p.Appraisal)
	}
	if other, err := a.Ask(t.Context(), workload.PeerID{2}, Question{Sealing: attest.SealingKey([]byte("another's"))}); err != nil || !other.Binding.Sealing.IsZero() || other.Sealing != nil {
		t.Errorf("bound to a key that the node did not make: %v, %+v", err, other.Binding)
	}
	put(t, policy, "maker.pem", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: maker.Revoke(cert.SerialNumber).Raw}))
	digest := workload.DigestOf(cert.RawSubjectPublicKeyInfo)
	put(t, policy, KeysFile, []byte("# known\n"+hex.EncodeToString(digest[:])+" # attic\n"))
	if p := ask(); p.Appraisal.Level != workload.LevelTPM {
		t.Errorf("by digest: %+v", p.Appraisal)
	}
	if told := answerer.Told(); len(told) != 4 || told[0].To != (workload.PeerID{1}) || told[0].Kind != workload.LevelTPM {
		t.Errorf("told %+v", told)
	}
	put(t, policy, "bad.pem", []byte("hello"))
	if _, err := a.Ask(t.Context(), workload.PeerID{2}, Question{}); !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), "bad.pem: there is no PEM block") {
		t.Errorf("a bad file: %v", err)
	}
}

// TestOverTheMesh asks over a real connection: the evidence is bound to it.
func TestOverTheMesh(t *testing.T) {
	chip, maker, policy := attesttest.NewChip(t), attesttest.NewMaker(t, "Chips of Test"), t.TempDir()
	maker.Endorse(chip, time.Now().AddDate(1, 0, 0))
	put(t, policy, "maker.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: maker.Root.Raw}))
	nodes := meshtest.Nodes(t, 2)
	meshtest.Connect(t, nodes[0], nodes[1])
	far := config(0, collect.New(chip.Files(t.TempDir())), "")
	far.Self = nodes[1].ID()
	nodes[1].HandleStream(wire.ProtoAttest, New(far).Serve)
	near := config(0, collect.Of(), policy)
	near.Self, near.Open = nodes[0].ID(), nodes[0].OpenStream
	p, err := New(near).Ask(t.Context(), nodes[1].ID(), Question{})
	if err != nil {
		t.Fatal(err)
	}
	if a := p.Appraisal; a.Level != workload.LevelTPM || !a.Channel || len(p.Binding.Channel) != 32 {
		t.Errorf("%+v", a)
	}
}

// TestRelay puts a node in the middle that shows another machine's evidence as
// its own: with the same nonce, it is still made for the other node.
func TestRelay(t *testing.T) {
	chip, maker, policy := attesttest.NewChip(t), attesttest.NewMaker(t, "Chips of Test"), t.TempDir()
	maker.Endorse(chip, time.Now().AddDate(1, 0, 0))
	put(t, policy, "maker.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: maker.Root.Raw}))
	genuine := New(config(2, collect.New(chip.Files(t.TempDir())), ""))
	a := pair(config(1, collect.Of(), policy), genuine)
	p, err := a.Ask(t.Context(), workload.PeerID{3}, Question{}) // whoever answers as node 3 passes the bytes on
	if err != nil || p.Appraisal.Level != workload.LevelNone || !slices.ContainsFunc(p.Appraisal.Fails, func(f string) bool { return strings.Contains(f, "made for another nonce, peer") }) {
		t.Errorf("relayed: %v %+v", err, p.Appraisal)
	}
}

func TestNothingToShow(t *testing.T) {
	m := collect.New(collect.Files{Root: t.TempDir()})
	a := pair(config(1, m, ""), New(config(2, m, "")))
	p, err := a.Ask(t.Context(), workload.PeerID{2}, Question{})
	if err != nil || p.Appraisal.Level != workload.LevelNone || len(p.Appraisal.Fails) != 0 || len(p.Appraisal.Notes) != 1 || len(p.Abilities) != 4 {
		t.Errorf("%v, %+v, %+v", err, p.Appraisal, p.Abilities)
	}
	if err := p.Appraisal.Meet(&workload.Require{Level: workload.LevelTPM, MaxAge: 1000}, p.Appraisal.At); err == nil || !strings.Contains(err.Error(), "it has no tpm") {
		t.Errorf("got %v", err)
	}
}

// TestBusyHardware fills every place: the next is told so, and asked again it is served.
func TestBusyHardware(t *testing.T) {
	m := collect.New(collect.Files{Root: t.TempDir()})
	answerer := New(config(2, m, ""))
	for range maxAsked {
		if !answerer.enter() {
			t.Fatal("no place where there should be one")
		}
	}
	a := pair(config(1, m, ""), answerer)
	if _, err := a.Ask(t.Context(), workload.PeerID{2}, Question{}); !errors.Is(err, wire.Busy) {
		t.Errorf("got %v", err)
	}
	answerer.leave()
	if _, err := a.Ask(t.Context(), workload.PeerID{2}, Question{}); err != nil {
		t.Error(err)
	}
}

func put(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// exchange is a stream whose other end said everything beforehand.
type exchange struct {
	io.Reader
	io.Writer
}

// FuzzStream feeds junk to both sides of the protocol, and to the reader of the
// operator's files.
func FuzzStream(f *testing.F) {
	frame := func(v any) []byte {
		var b bytes.Buffer
		_ = writeMessage(&b, v)
		return b.Bytes()
	}
	f.Add(frame(&wire.AttestMsg{Kind: workload.LevelTPM}))
	f.Add(frame(&wire.AttestAnswer{Evidence: (&attest.Evidence{Version: attest.Version, Kind: workload.LevelTPM}).Encode()}))
	f.Add(frame(&wire.AttestAnswer{Error: wire.Errorf(wire.NotFound, "none")}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"))
	a := New(config(1, collect.Of(), ""))
	f.Fuzz(func(t *testing.T, in []byte) {
		_ = a.answer(context.Background(), workload.PeerID{2}, exchange{bytes.NewReader(in), io.Discard}, nil)
		p, err := a.ask(exchange{bytes.NewReader(in), io.Discard}, nil, workload.PeerID{2}, Question{}, &attest.Policy{})
		if err == nil && p.Appraisal.Level != workload.LevelNone {
			t.Errorf("proved %s", p.Appraisal.Level)
		}
		_ = loadPEM(&attest.Policy{}, in)
		_ = loadKeys(&attest.Policy{}, in)
		_ = loadSheet(&attest.Policy{}, in)
	})
}
