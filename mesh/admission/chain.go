package admission

import (
	"fmt"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// Chain is what a bundle says, for somebody who judges it at another time than
// now: what a node signed last week, it signed with last week's certificate.
type Chain struct {
	Root     workload.PeerID
	Node     workload.PeerID
	Name     string
	Operator workload.PeerID // that signed the certificate
	Admitter workload.PeerID // that admitted the node: whose it counts as
	From, To time.Time       // when all of it holds
}

// OpenChain decodes a bundle and returns what it says.
func OpenChain(raw []byte) (Chain, error) {
	b, err := DecodeBundle(raw)
	if err != nil {
		return Chain{}, err
	}
	return b.Chain()
}

// Chain verifies the bundle from its own root to its node, but not its time.
// Whether the root is the right one is the caller's to know. The error wraps
// ErrNotAdmitted, ErrOtherMesh or ErrForged.
func (b Bundle) Chain() (Chain, error) {
	if b.IsZero() {
		return Chain{}, fmt.Errorf("an empty chain: %w", ErrNotAdmitted)
	}
	op, err := open(b.Operator, kindOperator, b.Root, b.Mesh())
	if err != nil {
		return Chain{}, fmt.Errorf("operator certificate: %w", err)
	}
	node, err := open(b.Node, kindNode, op.Subject, b.Mesh())
	if err != nil {
		return Chain{}, fmt.Errorf("node certificate: %w", err)
	}
	by, _, err := b.origin(op, node)
	if err != nil {
		return Chain{}, err
	}
	return Chain{
		Root: b.Root, Node: node.Subject, Name: node.Name, Operator: op.Subject, Admitter: by.Subject,
		From: time.UnixMilli(max(op.NotBefore, node.NotBefore)), To: time.UnixMilli(min(op.NotAfter, node.NotAfter)),
	}, nil
}
