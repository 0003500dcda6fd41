package parquet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Physical types, repetitions and kinds of pages of the format.
const (
	typeInt32, typeInt64, typeFloat, typeDouble, typeBytes = 1, 2, 4, 5, 6
	required, optional                                     = 0, 1
	pageData, pageDictionary, pageData2                    = 0, 2, 3
)

// Bounds of what is read.
const (
	MaxFile = 1 << 28 // bytes
	maxPage = 1 << 27 // bytes, unpacked
)

// Column is a column of numbers.
type Column struct {
	Name   string
	Values []float64 // NaN is null
	// Seconds is what a unit of a point in time is, in s; 0 is no point in time.
	Seconds float64
}

var magic = []byte("PAR1")

// ErrNotParquet is returned of a file that does not begin and end as one.
var ErrNotParquet = errors.New("it is not a Parquet file")

// Read returns columns of a file, each of as many rows as the file has, at most most.
// An error names the column.
func Read(file []byte, most int, names ...string) ([]Column, error) {
	meta, err := metadata(file)
	if err != nil {
		return nil, err
	}
	leaves, err := leavesOf(meta.at(2).list)
	if err != nil {
		return nil, err
	}
	var rows int64
	for _, g := range meta.at(4).list {
		if n := g.at(3).n; n < 0 || n > int64(most)-rows {
			return nil, fmt.Errorf("it has more than %d rows", most)
		}
		rows += g.at(3).n
	}
	var u unpacker
	defer u.close()
	out := make([]Column, 0, len(names))
	for _, name := range names {
		i := slices.IndexFunc(leaves, func(l leaf) bool { return l.name == name })
		if i < 0 {
			return nil, fmt.Errorf("the column %s is missing; the file has %.200s", name, listed(leaves))
		}
		c := Column{Name: name, Seconds: leaves[i].seconds}
		for g, group := range meta.at(4).list {
			if c.Values, err = chunk(file, &u, &leaves[i], group, c.Values); err != nil {
				return nil, fmt.Errorf("%s, row group %d: %w", name, g+1, err)
			}
		}
		out = append(out, c)
	}
	return out, nil
}

// metadata reads the end of a file: the metadata, its length and the magic again.
func metadata(file []byte) (value, error) {
	if len(file) > MaxFile {
		return value{}, fmt.Errorf("it has more than %d MiB", MaxFile>>20)
	}
	if len(file) < 12 || !bytes.HasPrefix(file, magic) || !bytes.HasSuffix(file, magic) {
		return value{}, ErrNotParquet
	}
	size := int64(binary.LittleEndian.Uint32(file[len(file)-8:]))
	if size > int64(len(file)-12) {
		return value{}, errCut
	}
	end := len(file) - 8
	return (&thrift{in: file[end-int(size) : end]}).structure(0)
}

// leaf is a column of the schema.
type leaf struct {
	name     string // of its whole path, parts joined by dots
	kind     int64
	optional bool
	flat     bool // a column of the table itself
	seconds  float64
}

func listed(leaves []leaf) string {
	names := make([]string, len(leaves))
	for i := range leaves {
		names[i] = leaves[i].name
	}
	return strings.Join(names, ", ")
}

// leavesOf are the columns of a schema, which lists a tree from its root.
func leavesOf(schema []value) ([]leaf, error) {
	if len(schema) == 0 {
		return nil, errors.New("it has no schema")
	}
	var leaves []leaf
	rest := schema[1:]
	var walk func(children int64, path string, depth int) error
	walk = func(children int64, path string, depth int) error {
		for range children {
			if len(rest) == 0 || depth > maxDepth {
				return errors.New("the schema does not end")
			}
			e := rest[0]
			rest = rest[1:]
			name := path + string(e.at(4).bytes)
			if n := e.at(5).n; n > 0 {
				if err := walk(n, name+".", depth+1); err != nil {
					return err
				}
				continue
			}
			leaves = append(leaves, leaf{
				name: name, kind: e.at(1).n, optional: e.at(3).n == optional, flat: depth == 0 && e.at(3).n <= optional, seconds: unit(e),
			})
		}
		return nil
	}
	if n := schema[0].at(5).n; n < 0 || n > int64(len(schema)) {
		return nil, errors.New("the schema does not end")
	}
	return leaves, walk(schema[0].at(5).n, "", 0)
}

// unit is that of a point in time, in s: a logical type's, or that of an older writer.
func unit(e value) float64 {
	if stamp, ok := e.at(10).fields[8]; ok {
		for i, s := range []float64{1e-3, 1e-6, 1e-9} {
			if _, is := stamp.at(2).fields[int64(i+1)]; is {
				return s
			}
		}
	}
	switch _, old := e.fields[6]; {
	case old && e.at(6).n == 9:
		return 1e-3
	case old && e.at(6).n == 10:
		return 1e-6
	}
	return 0
}

// chunk appends the values of a column in a row group.
func chunk(file []byte, u *unpacker, l *leaf, group value, to []float64) ([]float64, error) {
	if !l.flat || l.kind != typeInt32 && l.kind != typeInt64 && l.kind != typeFloat && l.kind != typeDouble {
		return nil, errors.New("it is not a column of plain numbers")
	}
	for _, column := range group.at(1).list {
		m := column.at(3)
		var path []string
		for _, part := range m.at(3).list {
			path = append(path, string(part.bytes))
		}
		if strings.Join(path, ".") != l.name {
			continue
		}
		begin := m.at(9).n
		if d, ok := m.fields[11]; ok && d.n > 0 {
			begin = min(begin, d.n)
		}
		size := m.at(7).n
		if begin < 0 || size < 0 || begin > int64(len(file)) || size > int64(len(file))-begin {
			return nil, errCut
		}
		c := pages{unpacker: u, leaf: l, codec: m.at(4).n, in: file[begin : begin+size]}
		return c.read(group.at(3).n, to)
	}
	return nil, errors.New("a row group does not have it")
}

// pages are those of a column in a row group.
type pages struct {
	*unpacker
	*leaf
	codec      int64
	in         []byte
	dictionary []float64
}

func (p *pages) read(rows int64, to []float64) ([]float64, error) {
	for left := rows; left > 0; {
		t := thrift{in: p.in}
		head, err := t.structure(0)
		if err != nil {
			return nil, err
		}
		packed, size := head.at(3).n, head.at(2).n
		if packed < 0 || packed > int64(len(t.in)) || size < 0 || size > maxPage {
			return nil, errCut
		}
		if most := sizeOf(max(head.at(5).at(1).n, head.at(7).at(1).n, head.at(8).at(1).n)); size > most {
			return nil, fmt.Errorf("a page of %d bytes, more than its values take", size)
		}
		body := t.in[:packed]
		p.in = t.in[packed:]
		switch head.at(1).n {
		case pageDictionary:
			if body, err = p.unpack(p.codec, body, size); err == nil {
				p.dictionary, err = p.plain(body, head.at(7).at(1).n)
			}
		case pageData, pageData2:
			n := head.at(5).at(1).n
			if head.at(1).n == pageData2 {
				n = head.at(8).at(1).n
			}
			if n < 0 || n > left {
				return nil, fmt.Errorf("a page has %d values, %d are left", n, left)
			}
			if head.at(1).n == pageData2 {
				to, err = p.second(head.at(8), body, size, to)
			} else {
				to, err = p.first(head.at(5), body, size, to)
			}
			left -= n
		}
		if err != nil {
			return nil, err
		}
	}
	return to, nil
}

// sizeOf is what a page of n numbers takes at most: 8 bytes each and a level, and what
// an encoding fills up.
func sizeOf(n int64) int64 { return 1<<16 + 16*min(max(n, 0), maxPage) }

// first appends a data page of version 1: all of it is packed, levels too.
func (p *pages) first(head value, body []byte, size int64, to []float64) ([]float64, error) {
	body, err := p.unpack(p.codec, body, size)
	if err != nil {
		return nil, err
	}
	n := head.at(1).n
	var levels []byte
	if p.optional {
		if len(body) < 4 || int64(binary.LittleEndian.Uint32(body)) > int64(len(body)-4) {
			return nil, errCut
		}
		k := 4 + int(binary.LittleEndian.Uint32(body))
		levels, body = body[4:k], body[k:]
	}
	return p.values(head.at(2).n, n, levels, body, to)
}

// second appends a data page of version 2: levels come first, and are not packed.
func (p *pages) second(head value, body []byte, size int64, to []float64) ([]float64, error) {
	repeats, defines := head.at(6).n, head.at(5).n
	if repeats < 0 || defines < 0 || repeats > int64(len(body)) || defines > int64(len(body))-repeats {
		return nil, errCut
	}
	levels := body[repeats : repeats+defines]
	body = body[repeats+defines:]
	if packed, said := head.fields[7]; !said || packed.n == 1 {
		var err error
		if body, err = p.unpack(p.codec, body, max(size-repeats-defines, 0)); err != nil {
			return nil, err
		}
	}
	return p.values(head.at(4).n, head.at(1).n, levels, body, to)
}

// values appends n values, of which those whose level is 0 are null.
func (p *pages) values(encoding, n int64, levels, body []byte, to []float64) ([]float64, error) {
	there, some := []uint32(nil), n
	if p.optional {
		var err error
		if there, err = hybrid(levels, 1, n); err != nil {
			return nil, err
		}
		some = 0
		for _, l := range there {
			some += int64(l)
		}
	}
	got, err := p.decode(encoding, some, body)
	if err != nil || !p.optional {
		return append(to, got...), err
	}
	for _, l := range there {
		if l == 0 {
			to = append(to, math.NaN())
			continue
		}
		to, got = append(to, got[0]), got[1:]
	}
	return to, nil
}
