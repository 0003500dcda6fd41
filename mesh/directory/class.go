package directory

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/perrin-mesh/perrin/workload"
)

// A Key is a place in the DHT where nodes of one kind say that they are there:
// a class of machine, or a label. It holds no more than names; what a node is,
// its own signed record says.
type Key [32]byte

// Any stands for every architecture, or for no particular runner or wall.
const Any = "*"

// maxSizeClass is the largest class of cores, 128 and more.
const maxSizeClass = 7

// Bounds of the keys that one node provides, and of those that are labels.
const (
	maxKeys      = 64
	maxLabelKeys = 32
)

// Class is a kind of machine, coarse enough that a mesh has few.
type Class struct {
	Arch    string // as Go names it, or Any
	Ability string // a runner (workload.Kind), a wall, or Any
	Attest  string // kind of evidence, or "" for none asked
	Size    int    // floor(log2 cores), at most 7
	Shard   uint32 // of the shards of the mesh
}

// Key hashes the class.
func (c Class) Key() Key {
	return hashKey("class", c.Arch, c.Ability, c.Attest, string(rune('0'+c.Size)), string(binary.BigEndian.AppendUint32(nil, c.Shard)))
}

// LabelKey is where the nodes that carry the label say so.
func LabelKey(name, value string) Key { return hashKey("label", name, value) }

// hashKey is SHA-256 over the parts, each behind its length.
func hashKey(parts ...string) Key {
	h := sha256.New()
	h.Write([]byte("perrin/key/1"))
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p))))
		h.Write([]byte(p))
	}
	return Key(h.Sum(nil))
}

func (k Key) cid() (cid.Cid, error) {
	mh, err := multihash.Encode(k[:], multihash.SHA2_256)
	if err != nil {
		return cid.Undef, fmt.Errorf("key: %w", err)
	}
	return cid.NewCidV1(cid.Raw, mh), nil
}

// SizeOf is the class of a number of cores.
func SizeOf(cores int32) int {
	return min(bits.Len32(uint32(max(cores, 1)))-1, maxSizeClass)
}

// shardOf spreads nodes over the shards of each class.
func shardOf(id workload.PeerID, shards uint32) uint32 {
	sum := sha256.Sum256(id[:])
	return binary.BigEndian.Uint32(sum[:4]) % max(shards, 1)
}

// Keys returns the keys at which a machine provides: its class for each of its
// runners and walls and for none in particular, with and without each kind of
// evidence, and one for each of its first 32 labels by name; at most 64.
func Keys(id workload.PeerID, m workload.Machine, shards uint32) []Key {
	abilities := []string{Any}
	for _, k := range m.Kinds {
		abilities = append(abilities, string(k))
	}
	abilities = append(abilities, m.Walls...)
	var keys []Key
	for _, arch := range []string{m.Arch, Any} {
		for _, ability := range abilities {
			for _, attest := range append([]string{""}, m.Attests...) {
				c := Class{Arch: arch, Ability: ability, Attest: attest, Size: SizeOf(m.Total.Cores), Shard: shardOf(id, shards)}
				keys = append(keys, c.Key())
			}
		}
	}
	names := sortedKeys(m.Labels)
	names = names[:min(len(names), maxLabelKeys)]
	keys = keys[:min(len(keys), maxKeys-len(names))]
	for _, name := range names {
		keys = append(keys, LabelKey(name, m.Labels[name]))
	}
	return keys
}

func sortedKeys(m map[string]string) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Query is what a machine must have. The zero value of a field asks nothing.
type Query struct {
	Arch    string
	Kind    workload.Kind
	Wall    string
	Attest  string
	Total   workload.Capacity // at least
	Labels  map[string]string
	Match   func(*NodeRecord) bool // any further condition; nil is none
	Limit   int                    // records wanted, 1 to MaxFind; 0 is DefaultFind
	Exclude []workload.PeerID
}

// Bounds of Query.Limit.
const (
	DefaultFind = 16
	MaxFind     = 128
)

// keys are where to look, in the order in which they are worth asking: the
// label that sorts first if there is one, else the sizes of class upward from
// the one that fits best.
func (q Query) keys(shards uint32) []Key {
	if names := sortedKeys(q.Labels); len(names) > 0 {
		return []Key{LabelKey(names[0], q.Labels[names[0]])}
	}
	c := Class{Arch: q.Arch, Ability: Any, Attest: q.Attest}
	if c.Arch == "" {
		c.Arch = Any
	}
	switch {
	case q.Wall != "":
		c.Ability = q.Wall
	case q.Kind != "":
		c.Ability = string(q.Kind)
	}
	var keys []Key
	for size := SizeOf(q.Total.Cores); size <= maxSizeClass; size++ {
		for shard := range max(shards, 1) {
			c.Size, c.Shard = size, shard
			keys = append(keys, c.Key())
		}
	}
	return keys
}

// matches judges a record by what it says.
func (q Query) matches(r *NodeRecord) bool {
	m := &r.Machine
	for name, value := range q.Labels {
		if m.Labels[name] != value {
			return false
		}
	}
	has := func(list []string, want string) bool { return want == "" || slices.Contains(list, want) }
	t := m.Total
	return (q.Arch == "" || q.Arch == m.Arch) &&
		(q.Kind == "" || slices.Contains(m.Kinds, q.Kind)) &&
		has(m.Walls, q.Wall) && has(m.Attests, q.Attest) &&
		t.Cores >= q.Total.Cores && t.Threads >= q.Total.Threads && t.Memory >= q.Total.Memory &&
		t.Disk >= q.Total.Disk && t.Slots >= q.Total.Slots && t.Spare >= q.Total.Spare &&
		!slices.Contains(q.Exclude, r.Peer) && (q.Match == nil || q.Match(r))
}
