// Package meshtest makes meshes for tests: real hosts on loopback QUIC under a
// root key of their own. Everything it starts ends with the test.
package meshtest

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/workload"
)

// Authority is the root and the operator of a mesh under test.
type Authority struct {
	Root, Operator ed25519.PrivateKey
	Cert           workload.Signed // the operator's certificate
}

// NewAuthority founds a mesh.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{Root: Key(t), Operator: Key(t)}
	cert, err := admission.IssueOperator(a.Root, IDOf(a.Operator), "operator", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	a.Cert = cert
	return a
}

// Key makes a key.
func Key(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	key, err := admission.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// IDOf is the identity of a key.
func IDOf(key ed25519.PrivateKey) workload.PeerID {
	return workload.PeerIDOf(key.Public().(ed25519.PublicKey))
}

// Mesh is the mesh's name.
func (a *Authority) Mesh() workload.MeshID { return admission.MeshOf(IDOf(a.Root)) }

// Bundle admits the node of a key from the given time on.
func (a *Authority) Bundle(t testing.TB, key ed25519.PrivateKey, name string, from time.Time) admission.Bundle {
	t.Helper()
	cert, err := admission.IssueNode(a.Operator, a.Mesh(), IDOf(key), name, from)
	if err != nil {
		t.Fatal(err)
	}
	return admission.Bundle{Root: IDOf(a.Root), Operator: a.Cert, Node: cert}
}

// Config is a member's configuration, on a free port of loopback QUIC.
func (a *Authority) Config(t testing.TB, name string) mesh.Config {
	t.Helper()
	cfg := mesh.Default()
	cfg.Key = Key(t)
	cfg.Bundle = a.Bundle(t, cfg.Key, name, time.Now())
	cfg.Listen = []string{"/ip4/127.0.0.1/udp/0/quic-v1"}
	return cfg
}

// Node is a host and its key.
type Node struct {
	*mesh.Host
	Key ed25519.PrivateKey
}

// Start starts a host, which is closed when the test ends.
func Start(t testing.TB, cfg mesh.Config) *Node {
	t.Helper()
	h, err := mesh.New(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close host: %v", err)
		}
	})
	return &Node{h, cfg.Key}
}

// Nodes starts n hosts of a new mesh, named n0, n1 and so on, each connected
// to n0.
func Nodes(t testing.TB, n int) []*Node {
	t.Helper()
	a := NewAuthority(t)
	nodes := make([]*Node, n)
	for i := range nodes {
		nodes[i] = Start(t, a.Config(t, fmt.Sprintf("n%d", i)))
		if i > 0 {
			Connect(t, nodes[i], nodes[0])
		}
	}
	return nodes
}

// Connect connects two hosts and fails the test if they do not admit each other.
func Connect(t testing.TB, from, to *Node) {
	t.Helper()
	if err := from.Connect(Within(t, 15*time.Second), to.Addrs()); err != nil {
		t.Fatal(err)
	}
}

// Within is a context that ends after d or with the test.
func Within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// Eventually polls a condition that another goroutine will make true, and
// fails the test if it is not within 30 s.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); <-tick.C {
		if ok() {
			return
		}
	}
	t.Fatalf("not in time: %s", what)
}
