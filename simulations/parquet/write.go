package parquet

import (
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Kind is what a column that is written has.
type Kind int64

// The kinds of columns.
const (
	Int32 Kind = typeInt32
	Int64 Kind = typeInt64
	Text  Kind = typeBytes
)

// Field is a column to write.
type Field struct {
	Name     string
	Kind     Kind
	Optional bool // rows may have none
}

// A row group is written when it has so many rows or one of its columns so many bytes:
// what waits in memory is bounded by it.
const (
	groupRows  = 1 << 16
	groupBytes = 1 << 22
)

// Writer writes a table row by row. It is not safe for concurrent use.
type Writer struct {
	to      io.Writer
	at      int64 // bytes written
	fields  []Field
	notes   [][2]string
	columns []waiting
	rows    int64
	groups  []group
	zip     *zstd.Encoder
	err     error // the first
}

// waiting is what is not written yet of a column.
type waiting struct {
	data   []byte
	levels []byte // a bit for each row of an optional one
}

// group is a row group that is written.
type group struct {
	rows   int64
	chunks []written
}

type written struct{ at, size, unpacked int64 }

// NewWriter begins a table. notes are pairs of names and values for its metadata.
func NewWriter(to io.Writer, fields []Field, notes ...[2]string) (*Writer, error) {
	zip, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return nil, err
	}
	w := &Writer{to: to, fields: fields, notes: notes, columns: make([]waiting, len(fields)), zip: zip}
	w.write(magic)
	return w, w.err
}

// Int is the next row's value in a column of numbers.
func (w *Writer) Int(column int, v int64) {
	c := &w.columns[column]
	if w.fields[column].Kind == Int32 {
		c.data = binary.LittleEndian.AppendUint32(c.data, uint32(v))
	} else {
		c.data = binary.LittleEndian.AppendUint64(c.data, uint64(v))
	}
	w.level(column, 1)
}

// Text is the next row's value in a column of text.
func (w *Writer) Text(column int, v string) {
	c := &w.columns[column]
	c.data = append(binary.LittleEndian.AppendUint32(c.data, uint32(len(v))), v...)
	w.level(column, 1)
}

// None leaves the next row without a value in an optional column.
func (w *Writer) None(column int) { w.level(column, 0) }

func (w *Writer) level(column int, bit byte) {
	if !w.fields[column].Optional {
		return
	}
	c, at := &w.columns[column], w.rows%8
	if at == 0 {
		c.levels = append(c.levels, 0)
	}
	c.levels[len(c.levels)-1] |= bit << at
}

// Row ends a row, which must have a value of every column, or none where it may.
func (w *Writer) Row() error {
	w.rows++
	full := w.rows == groupRows
	for i := range w.columns {
		full = full || len(w.columns[i].data) > groupBytes
	}
	if full {
		w.flush()
	}
	return w.err
}

func (w *Writer) write(b []byte) {
	if w.err == nil {
		_, w.err = w.to.Write(b)
		w.at += int64(len(b))
	}
}

// flush writes a row group: a page of each column.
func (w *Writer) flush() {
	g := group{rows: w.rows}
	for i := range w.columns {
		c := &w.columns[i]
		var body []byte
		if w.fields[i].Optional {
			levels := binary.AppendUvarint(nil, uint64(len(c.levels))<<1|1)
			levels = append(levels, c.levels...)
			body = append(binary.LittleEndian.AppendUint32(body, uint32(len(levels))), levels...)
		}
		body = append(body, c.data...)
		packed := w.zip.EncodeAll(body, nil)
		head := pageHead(w.rows, int64(len(body)), int64(len(packed)))
		g.chunks = append(g.chunks, written{w.at, int64(len(head) + len(packed)), int64(len(head) + len(body))})
		w.write(head)
		w.write(packed)
		c.data, c.levels = c.data[:0], c.levels[:0]
	}
	w.groups, w.rows = append(w.groups, g), 0
}

const encRLE = 3 // of levels

func pageHead(rows, unpacked, packed int64) []byte {
	s := &structOf{pen: &pen{}}
	s.i32(1, pageData)
	s.i32(2, unpacked)
	s.i32(3, packed)
	page := s.in(5)
	page.i32(1, rows)
	page.i32(2, encPlain)
	page.i32(3, encRLE)
	page.i32(4, encRLE)
	page.end()
	s.end()
	return s.out
}

// Close writes what waits and the metadata, without which nothing can be read. It does
// not close what is written to.
func (w *Writer) Close() error {
	if w.rows > 0 {
		w.flush()
	}
	meta := w.metadata()
	w.write(meta)
	w.write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(meta))), magic...))
	if err := w.zip.Close(); w.err == nil {
		w.err = err
	}
	return w.err
}

func (w *Writer) metadata() []byte {
	s := &structOf{pen: &pen{}}
	s.i32(1, 1)
	s.list(2, tStruct, 1+len(w.fields))
	root := &structOf{pen: s.pen}
	root.text(4, "schema")
	root.i32(5, int64(len(w.fields)))
	root.end()
	for _, f := range w.fields {
		f.element(s.pen)
	}
	var rows int64
	for _, g := range w.groups {
		rows += g.rows
	}
	s.i64(3, rows)
	s.list(4, tStruct, len(w.groups))
	for _, g := range w.groups {
		g.element(s.pen, w.fields)
	}
	s.list(5, tStruct, len(w.notes))
	for _, note := range w.notes {
		kv := &structOf{pen: s.pen}
		kv.text(1, note[0])
		kv.text(2, note[1])
		kv.end()
	}
	s.text(6, "perrin")
	s.end()
	return s.out
}

// element writes a column of the schema.
func (f *Field) element(p *pen) {
	e := &structOf{pen: p}
	e.i32(1, int64(f.Kind))
	repeats := int64(required)
	if f.Optional {
		repeats = optional
	}
	e.i32(3, repeats)
	e.text(4, f.Name)
	if f.Kind == Text {
		e.i32(6, 0) // UTF8, for older readers
		logical := e.in(10)
		logical.in(1).end() // string
		logical.end()
	}
	e.end()
}

// element writes a row group.
func (g *group) element(p *pen, fields []Field) {
	s := &structOf{pen: p}
	s.list(1, tStruct, len(g.chunks))
	var all int64
	for i, c := range g.chunks {
		all += c.unpacked
		column := &structOf{pen: p}
		column.i64(2, c.at)
		m := column.in(3)
		m.i32(1, int64(fields[i].Kind))
		m.list(2, tI32, 2)
		m.varint(encPlain)
		m.varint(encRLE)
		m.list(3, tBinary, 1)
		m.string(fields[i].Name)
		m.i32(4, packZstd)
		m.i64(5, g.rows)
		m.i64(6, c.unpacked)
		m.i64(7, c.size)
		m.i64(9, c.at)
		m.end()
		column.end()
	}
	s.i64(2, all)
	s.i64(3, g.rows)
	s.end()
}
