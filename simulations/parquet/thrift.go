package parquet

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// value is a value of Thrift's compact protocol: a number, bytes, a list or a struct.
type value struct {
	n      int64 // of a whole number; 1 is true
	bytes  []byte
	list   []value
	fields map[int64]value
}

// at returns a field of a struct; the zero value where there is none.
func (v value) at(field int64) value { return v.fields[field] }

// Types of the compact protocol.
const (
	tStop, tTrue, tFalse, tByte, tI16, tI32, tI64, tDouble, tBinary, tList, tSet, tMap, tStruct = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
)

const (
	maxDepth  = 12        // of structs in each other
	maxValues = 1_000_000 // of a file's metadata
)

var (
	errCut   = errors.New("the metadata is cut off")
	errLarge = errors.New("the metadata is too large")
)

// thrift reads values.
type thrift struct {
	in     []byte
	values int
}

func (t *thrift) uvarint() (uint64, error) {
	v, n := binary.Uvarint(t.in)
	if n <= 0 {
		return 0, errCut
	}
	t.in = t.in[n:]
	return v, nil
}

func (t *thrift) varint() (int64, error) {
	v, err := t.uvarint()
	return unzigzag(v), err
}

func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

func (t *thrift) byte() (byte, error) {
	if len(t.in) == 0 {
		return 0, errCut
	}
	b := t.in[0]
	t.in = t.in[1:]
	return b, nil
}

func (t *thrift) take(n uint64) ([]byte, error) {
	if n > uint64(len(t.in)) {
		return nil, errCut
	}
	b := t.in[:n]
	t.in = t.in[n:]
	return b, nil
}

// structure reads a struct up to its end.
func (t *thrift) structure(depth int) (value, error) {
	v := value{fields: map[int64]value{}}
	for id := int64(0); ; {
		head, err := t.byte()
		if err != nil || head == tStop {
			return v, err
		}
		if id += int64(head >> 4); head>>4 == 0 {
			if id, err = t.varint(); err != nil {
				return v, err
			}
		}
		kind := head & 15
		field := value{n: 1}
		switch kind {
		case tTrue, tFalse: // the kind is the value
			if kind == tFalse {
				field.n = 0
			}
			if t.values++; t.values > maxValues {
				return v, errLarge
			}
		default:
			if field, err = t.value(kind, depth+1); err != nil {
				return v, err
			}
		}
		v.fields[id] = field
	}
}

func (t *thrift) value(kind byte, depth int) (v value, err error) {
	if t.values++; t.values > maxValues || depth > maxDepth {
		return v, errLarge
	}
	switch kind {
	case tTrue, tFalse, tByte: // in a list a truth has a byte
		b, err := t.byte()
		return value{n: int64(b)}, err
	case tI16, tI32, tI64:
		v.n, err = t.varint()
	case tDouble:
		v.bytes, err = t.take(8)
	case tBinary:
		n, err := t.uvarint()
		if err != nil {
			return v, err
		}
		v.bytes, err = t.take(n)
		return v, err
	case tList, tSet:
		return t.items(depth)
	case tStruct:
		return t.structure(depth)
	default:
		err = fmt.Errorf("the metadata has a value of type %d", kind)
	}
	return v, err
}

func (t *thrift) items(depth int) (v value, err error) {
	head, err := t.byte()
	if err != nil {
		return v, err
	}
	n := uint64(head >> 4)
	if n == 15 {
		if n, err = t.uvarint(); err != nil {
			return v, err
		}
	}
	if n > uint64(len(t.in)) {
		return v, errCut
	}
	for range n {
		item, err := t.value(head&15, depth+1)
		if err != nil {
			return v, err
		}
		v.list = append(v.list, item)
	}
	return v, nil
}

// pen writes values.
type pen struct{ out []byte }

// structOf writes fields in the order of their numbers; who calls it ends each struct.
type structOf struct {
	*pen
	last int64
}

func (s *structOf) head(id int64, kind byte) {
	s.out = append(s.out, byte(id-s.last)<<4|kind)
	s.last = id
}

func (p *pen) uvarint(v uint64) { p.out = binary.AppendUvarint(p.out, v) }

func (p *pen) varint(v int64) { p.uvarint(uint64(v<<1) ^ uint64(v>>63)) }

func (s *structOf) i32(id, v int64) {
	s.head(id, tI32)
	s.varint(v)
}

func (s *structOf) i64(id, v int64) {
	s.head(id, tI64)
	s.varint(v)
}

func (s *structOf) text(id int64, v string) {
	s.head(id, tBinary)
	s.string(v)
}

func (p *pen) string(v string) {
	p.uvarint(uint64(len(v)))
	p.out = append(p.out, v...)
}

// list begins a list of at most 2^31 values of a kind.
func (s *structOf) list(id int64, kind byte, n int) {
	s.head(id, tList)
	if n < 15 {
		s.out = append(s.out, byte(n)<<4|kind)
		return
	}
	s.out = append(s.out, 15<<4|kind)
	s.uvarint(uint64(n))
}

// in begins a struct in a field.
func (s *structOf) in(id int64) *structOf {
	s.head(id, tStruct)
	return &structOf{pen: s.pen}
}

func (s *structOf) end() { s.out = append(s.out, tStop) }
