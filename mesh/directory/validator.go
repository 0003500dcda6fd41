package directory

import (
	"fmt"
	"strings"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// The namespaces of values.
const (
	nodeNamespace = "perrin-node"
	cellNamespace = "perrin-cell"
)

func nodeKey(id workload.PeerID) string { return "/" + nodeNamespace + "/" + id.String() }
func cellKey(id workload.CellID) string { return "/" + cellNamespace + "/" + id.String() }

// judge is what both validators know.
type judge struct {
	mesh workload.MeshID
	now  func() time.Time
}

// nodeValidator lets a node's own record into the DHT under its key.
type nodeValidator struct{ judge }

// Validate implements record.Validator.
func (v nodeValidator) Validate(key string, value []byte) error {
	r, err := OpenNode(value, v.mesh, v.now())
	if err != nil {
		return err
	}
	if key != nodeKey(r.Peer) {
		return fmt.Errorf("node record of %s under key %.100q: %w", r.Peer.Short(), key, ErrRecord)
	}
	return nil
}

// Select prefers the higher sequence number.
func (v nodeValidator) Select(key string, values [][]byte) (int, error) {
	return best(key, values, func(raw []byte) (*NodeRecord, error) { return OpenNode(raw, v.mesh, v.now()) },
		func(a, b *NodeRecord) bool { return a.Seq > b.Seq })
}

// cellValidator lets a cell's record into the DHT under its key.
type cellValidator struct{ judge }

// Validate implements record.Validator.
func (v cellValidator) Validate(key string, value []byte) error {
	r, err := OpenCell(value, v.mesh, v.now())
	if err != nil {
		return err
	}
	if key != cellKey(r.Cell) {
		return fmt.Errorf("cell record of %s under key %.100q: %w", r.Cell, key, ErrRecord)
	}
	return nil
}

// Select prefers the higher epoch, then term, then sequence number.
func (v cellValidator) Select(key string, values [][]byte) (int, error) {
	return best(key, values, func(raw []byte) (*CellRecord, error) { return OpenCell(raw, v.mesh, v.now()) },
		func(a, b *CellRecord) bool { return a.newer(b) })
}

// best returns the index of the first value that no other is better than.
// Values that do not open are passed over.
func best[R any](key string, values [][]byte, open func([]byte) (R, error), better func(a, b R) bool) (int, error) {
	at := -1
	var top R
	for i, raw := range values {
		r, err := open(raw)
		if err == nil && (at < 0 || better(r, top)) {
			at, top = i, r
		}
	}
	if at < 0 {
		return 0, fmt.Errorf("none of %d values of %.100q: %w", len(values), strings.ToValidUTF8(key, "?"), ErrRecord)
	}
	return at, nil
}
