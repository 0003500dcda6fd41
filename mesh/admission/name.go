package admission

import (
	"fmt"

	"github.com/perrin-mesh/perrin/mesh/wire"
)

// NodeName returns the name in the bundle's node certificate. It verifies
// nothing: it is for a node that reads its own bundle, which may have ended.
func (b Bundle) NodeName() (string, error) {
	var c certificate
	if err := wire.Unmarshal(b.Node.Payload, &c); err != nil {
		return "", fmt.Errorf("node certificate: %w: %w", ErrForged, err)
	}
	return c.Name, nil
}
