package workload

import (
	"encoding/binary"
	"testing"
)

// TestPicks: a node is checked always below TrustedAfter, and then about once in as
// many tasks as it has agreed results.
func TestPicks(t *testing.T) {
	const tries = 20_000
	for _, streak := range []uint32{0, TrustedAfter - 1, TrustedAfter, 50, 200} {
		picked := 0
		for i := range uint64(tries) {
			if Picks(binary.BigEndian.AppendUint64(nil, i), streak) {
				picked++
			}
		}
		want := tries
		if streak >= TrustedAfter {
			want = tries / int(streak)
		}
		if picked < want*8/10 || picked > want*12/10 {
			t.Errorf("streak %d: %d of %d picked, want about %d", streak, picked, tries, want)
		}
	}
}
