package count

// FNV-1a, 32 bits.
const (
	hashStart  = 2166136261
	hashFactor = 16777619
)

// words counts words: an open hash table that the lexer gives the hash it has
// made while it read. That is most of the work, and twice as quick as a map in
// a wasm guest.
type words struct {
	slots []wordSlot // a power of two, at most three quarters used
	used  int
}

type wordSlot struct {
	word  string
	hash  uint32
	count int
}

// use counts one use of w and returns it.
func (t *words) use(w []byte, hash uint32) string {
	if 4*t.used >= 3*len(t.slots) {
		t.grow()
	}
	mask := uint32(len(t.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := &t.slots[i]
		if s.count == 0 {
			*s = wordSlot{string(w), hash, 0}
			t.used++
		}
		if s.hash == hash && s.word == string(w) {
			s.count++
			return s.word
		}
	}
}

func (t *words) grow() {
	old := t.slots
	t.slots = make([]wordSlot, max(1024, 2*len(old)))
	mask := uint32(len(t.slots) - 1)
	for _, s := range old {
		i := s.hash & mask
		for ; s.count > 0 && t.slots[i].count > 0; i = (i + 1) & mask {
		}
		if s.count > 0 {
			t.slots[i] = s
		}
	}
}

// list returns every word with its uses, in no order.
func (t *words) list() []Identifier {
	list := make([]Identifier, 0, t.used)
	for _, s := range t.slots {
		if s.count > 0 {
			list = append(list, Identifier{s.word, s.count})
		}
	}
	return list
}
