package guestwire

import (
	"bytes"
	"errors"
	"testing"

	"github.com/perrin-mesh/perrin/workload/wasm/frame"
)

// FuzzSplitConn: what a guest sends as data of a connection is split as it was
// joined, or refused.
func FuzzSplitConn(f *testing.F) {
	f.Add(WithConn(1, []byte("GET /")))
	f.Add(WithConn(1<<32-1, nil))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, payload []byte) {
		conn, data, err := SplitConn(payload)
		if err != nil {
			if !errors.Is(err, frame.ErrFrame) || len(payload) >= 4 {
				t.Errorf("%d bytes: %v", len(payload), err)
			}
			return
		}
		if !bytes.Equal(WithConn(conn, data), payload) {
			t.Errorf("joined again it differs from %x", payload)
		}
	})
}
