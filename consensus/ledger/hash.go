package ledger

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"reflect"
	"slices"

	"github.com/perrin-mesh/perrin/workload"
)

// Hash returns a digest of the whole ledger: equal on replicas that applied the
// same log, and after Restore. It walks everything and is meant for checkpoints
// and tests. Empty and absent lists count as equal.
func (s *State) Hash() workload.Digest {
	return digest(s.Snapshot())
}

func digest(snap *Snapshot) workload.Digest {
	h := hasher{sha: sha256.New()}
	h.value(reflect.ValueOf(snap).Elem())
	return workload.Digest(h.sha.Sum(nil))
}

// hasher feeds a value to a hash: every number as 8 bytes, every length before
// its elements, maps in the order of their keys.
type hasher struct {
	sha hash.Hash
	buf [8]byte
}

func (h *hasher) number(n uint64) {
	binary.BigEndian.PutUint64(h.buf[:], n)
	h.sha.Write(h.buf[:])
}

func (h *hasher) value(v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		h.number(uint64(boolInt(v.Bool())))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		h.number(uint64(v.Int()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		h.number(v.Uint())
	case reflect.String:
		h.number(uint64(v.Len()))
		h.sha.Write([]byte(v.String()))
	case reflect.Pointer:
		h.number(uint64(boolInt(!v.IsNil())))
		if !v.IsNil() {
			h.value(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			h.value(v.Field(i))
		}
	case reflect.Slice, reflect.Array:
		h.list(v)
	case reflect.Map:
		h.mapping(v)
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (h *hasher) list(v reflect.Value) {
	h.number(uint64(v.Len()))
	if v.Type().Elem().Kind() == reflect.Uint8 {
		b := make([]byte, v.Len())
		reflect.Copy(reflect.ValueOf(b), v)
		h.sha.Write(b)
		return
	}
	for i := range v.Len() {
		h.value(v.Index(i))
	}
}

func (h *hasher) mapping(v reflect.Value) {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return cmp.Compare(a.String(), b.String()) })
	h.number(uint64(len(keys)))
	for _, k := range keys {
		h.value(k)
		h.value(v.MapIndex(k))
	}
}
