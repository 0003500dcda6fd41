package api

import (
	"context"
	"net/http"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// Trust is what a node knows of who may admit to its mesh and who is put out.
type Trust struct {
	Mesh      workload.MeshID `json:"mesh"`
	Root      workload.PeerID `json:"root"`
	RootHere  bool            `json:"root_here"` // the root key lies on this node
	Charter   uint64          `json:"charter"`   // the number of the root's last statement; 0 while none is known
	Operators []TrustOperator `json:"operators"`
	Removed   []TrustOperator `json:"removed,omitempty"`
	Node      Certificate     `json:"certificate"`
	Denied    []Denied        `json:"denied"`
	Invited   int             `json:"invitations_open"` // that this node made
	// Rules is a digest of what this node's operator asks of machines (perrin attest); zero
	// is the defaults. Every voter is to have the same.
	Rules workload.Digest `json:"attest_rules"`
	// RulesFolder is where they lie, RulesWrong why they do not read: then no machine counts.
	RulesFolder string `json:"attest_folder,omitempty"`
	RulesWrong  string `json:"attest_wrong,omitempty"`
	// Said is what the root and the operators have signed, as perrin trust export writes it.
	Said []byte `json:"said,omitempty"`
}

// TrustOperator is an operator of the mesh.
type TrustOperator struct {
	Name    string          `json:"name"`
	Key     workload.PeerID `json:"key"`
	Node    workload.PeerID `json:"node"`
	Self    bool            `json:"self"`
	Reached bool            `json:"reached"`                   // it is this node or connected to it
	Time    time.Time       `json:"time"`                      // since when it is one; of a removed one, from when it counts no more
	Already bool            `json:"already,omitempty"`         // it was one before it was added
	Lapsing int             `json:"lapsing_denials,omitempty"` // of one just removed: its denials that nobody took over
}

// Certificate is the node's own, with when it is renewed and when it counts no more.
type Certificate struct {
	Node     workload.PeerID `json:"node"`
	Name     string          `json:"name"`
	Operator string          `json:"operator"`
	Admitter string          `json:"admitted_by"` // the operator that let it in: whose it counts as
	Issued   time.Time       `json:"issued"`
	Renews   time.Time       `json:"renews"`
	Ends     time.Time       `json:"ends"`
	Grace    time.Time       `json:"grace_until"` // while no operator is there to renew it
}

// Denied is an entry of the deny list.
type Denied struct {
	Peer   workload.PeerID `json:"peer"`
	Name   string          `json:"name,omitempty"` // if it is known here
	By     string          `json:"by"`             // the operator
	Seq    uint64          `json:"seq"`
	Since  time.Time       `json:"since"`
	Until  *time.Time      `json:"until,omitempty"` // nil is for good
	Reason string          `json:"reason,omitempty"`
	Others []string        `json:"others,omitempty"` // after a change: other operators that deny the peer
	// Successor is the key that the peer's node has instead, which is not denied with it.
	Successor *workload.PeerID `json:"successor,omitempty"`
}

// OperatorChange names a node and what it is to be.
type OperatorChange struct {
	Node   string `json:"node"` // a name, an identity or the beginning of one
	Remove bool   `json:"remove,omitempty"`
	Now    bool   `json:"now,omitempty"`    // with Remove: its certificates count no more at once
	Rotate bool   `json:"rotate,omitempty"` // with a new key
}

// DenyChange names a peer that is put out, or let in again.
type DenyChange struct {
	Peer   string `json:"peer"` // a name, an identity or the beginning of one
	ForMs  int64  `json:"for_ms,omitempty"`
	Reason string `json:"reason,omitempty"`
	Lift   bool   `json:"lift,omitempty"`
	Force  bool   `json:"force,omitempty"` // also the cell's only voter
}

// TrustBackend is the part of a Backend that decides who belongs to the mesh.
type TrustBackend interface {
	Trust(ctx context.Context) (*Trust, error)
	// ChangeOperator makes a node an operator's, or takes that back; it needs the
	// root key.
	ChangeOperator(ctx context.Context, c OperatorChange) (*TrustOperator, error)
	// ChangeDenied puts a peer out of the mesh, or lets it in again; it needs an
	// operator's key. The answer is what counts now.
	ChangeDenied(ctx context.Context, c DenyChange) (*Denied, error)
}

func (s *Server) trustRoutes() {
	s.answer("GET /v1/trust", func(r *http.Request) (any, error) { return s.backend.Trust(r.Context()) })
	s.answer("POST /v1/operators", func(r *http.Request) (any, error) {
		var c OperatorChange
		if err := readJSON(r, &c); err != nil {
			return nil, err
		}
		return s.backend.ChangeOperator(r.Context(), c)
	})
	s.answer("POST /v1/denied", func(r *http.Request) (any, error) {
		var c DenyChange
		if err := readJSON(r, &c); err != nil {
			return nil, err
		}
		return s.backend.ChangeDenied(r.Context(), c)
	})
}

// Trust implements Backend.
func (c *Client) Trust(ctx context.Context) (*Trust, error) {
	return get[Trust](ctx, c, "/v1/trust", nil)
}

// ChangeOperator implements Backend.
func (c *Client) ChangeOperator(ctx context.Context, change OperatorChange) (*TrustOperator, error) {
	return post[TrustOperator](ctx, c, "/v1/operators", change)
}

// ChangeDenied implements Backend.
func (c *Client) ChangeDenied(ctx context.Context, change DenyChange) (*Denied, error) {
	return post[Denied](ctx, c, "/v1/denied", change)
}

func post[T any](ctx context.Context, c *Client, path string, body any) (*T, error) {
	out := new(T)
	if err := c.call(ctx, http.MethodPost, path, nil, body, out); err != nil {
		return nil, err
	}
	return out, nil
}
