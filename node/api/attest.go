package api

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// Attest is what a node proves of its machine, as the daemon that was asked
// found out just now.
type Attest struct {
	Node          workload.PeerID    `json:"node"`
	Name          string             `json:"name"`
	Self          bool               `json:"self"`
	Appraisal     workload.Appraisal `json:"appraisal"`
	Abilities     []workload.Ability `json:"abilities"` // as the node claims
	EvidenceBytes int                `json:"evidence_bytes"`
	SameRules     bool               `json:"same_rules"`     // that node says that it asks of machines what this one does
	Policy        string             `json:"policy_folder"`  // of the daemon that appraised
	Told          []Told             `json:"told,omitempty"` // of this node alone: the last 64 times that it proved something to another
}

// Told is one time that a node proved something.
type Told struct {
	To       workload.PeerID `json:"to"`
	Name     string          `json:"name,omitempty"`
	Kind     workload.Level  `json:"kind"`
	Workload workload.ID     `json:"workload"`
	At       time.Time       `json:"at"`
}

// Attest implements Backend.
func (c *Client) Attest(ctx context.Context, node string) (*Attest, error) {
	out := new(Attest)
	if err := c.call(ctx, http.MethodPost, "/v1/attest", url.Values{"node": {node}}, nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

func (s *Server) attest(r *http.Request) (any, error) {
	return s.backend.Attest(r.Context(), r.URL.Query().Get("node"))
}
