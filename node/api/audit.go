package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// Audit is what a node gathered about the history of a cell. What it proves is in
// Proof; the rest is the node's own word.
type Audit struct {
	Cell    workload.CellID   `json:"cell"`
	Root    workload.PeerID   `json:"root"`
	Walked  bool              `json:"walked"` // the node has the log, and computed the chain from it
	From    uint64            `json:"from"`   // the first entry of that
	To      uint64            `json:"to"`
	Entries int               `json:"entries"` // commands
	Awards  int               `json:"awards"`  // those among them, each cleared again
	Faults  []string          `json:"faults"`  // where the log does not give the chain
	Voters  []workload.PeerID `json:"voters"`  // as this node knows them
	Refused []Refusal         `json:"refused"` // what no honest leader proposes, the first one first
	Silent  []workload.PeerID `json:"silent"`  // those of them that did not answer
	// Checkpoint is the newest that this voter had countersigned by itself; nil is none.
	Checkpoint *Checkpoint `json:"checkpoint,omitempty"`

	Proof json.RawMessage `json:"proof"` // a notary.Proof
}

// Checkpoint is a head of the cell's chain that a majority of its voters signed when a
// voter asked them, as it does while entries come. The marks are in the proof.
type Checkpoint struct {
	Index  uint64    `json:"index"`
	At     time.Time `json:"at"`
	Signed int       `json:"signed"`
	Voters int       `json:"voters"`
	Kept   int       `json:"kept"` // it and those before it
}

// Refusal is an entry that a server of the cell refused when it applied the log by the
// rules of every replica. Leader signed it as a member of the cell; zero when none did.
type Refusal struct {
	Index  uint64          `json:"index"`
	Code   string          `json:"code"`
	Detail string          `json:"detail"`
	Leader workload.PeerID `json:"leader,omitzero"`
}

// Audit implements Backend.
func (c *Client) Audit(ctx context.Context, cell workload.CellID) (*Audit, error) {
	query := url.Values{}
	if cell != (workload.CellID{}) {
		query.Set("cell", cell.String())
	}
	out := new(Audit)
	if err := c.call(ctx, http.MethodGet, "/v1/audit", query, nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

func (s *Server) audit(r *http.Request) (any, error) {
	var cell workload.CellID
	if text := r.URL.Query().Get("cell"); text != "" {
		if err := cell.UnmarshalText([]byte(text)); err != nil {
			return nil, Errorf(Invalid, "%s", err.Error())
		}
	}
	return s.backend.Audit(r.Context(), cell)
}
