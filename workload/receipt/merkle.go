package receipt

import (
	"crypto/sha256"
	"math/bits"

	"github.com/perrin-mesh/perrin/workload"
)

// leafOf is the hash of a leaf and nodeOf that of two nodes, each with the
// prefix of RFC 6962, section 2.1, so that neither passes for the other.
func leafOf(data []byte) workload.Digest {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(data)
	return workload.Digest(h.Sum(nil))
}

func nodeOf(left, right workload.Digest) workload.Digest {
	var b [1 + 2*sha256.Size]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

// rootOf is the root of a Merkle tree over leaves; of none the hash of nothing.
func rootOf(leaves []workload.Digest) workload.Digest {
	switch len(leaves) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	}
	split := 1 << (bits.Len(uint(len(leaves)-1)) - 1) // the largest power of two below
	return nodeOf(rootOf(leaves[:split]), rootOf(leaves[split:]))
}
