package oci

import (
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/perrin-mesh/perrin/workload/runner/runnertest"
)

// TestEscape: what an image's program changes of its root is its own copy's
// (TestAttemptsDoNotMeet).
func TestEscape(t *testing.T) {
	s := stage(t, probeImage(t, v1.ImageConfig{User: "1000:1000"}))
	runnertest.Escape(t, s.kit(newRunner(t)), runnertest.ColumnOCI, "own=a change to the view: /, /usr, /etc, /dev")
}
