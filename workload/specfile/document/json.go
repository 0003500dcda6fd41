package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"
)

// looksLikeJSON reports whether data begins with a brace and is one JSON value;
// YAML in flow style may begin with one as well.
func looksLikeJSON(data []byte) bool {
	head := bytes.TrimLeft(data, " \t\r\n")
	return len(head) > 0 && head[0] == '{' && json.Valid(data)
}

type jsonReader struct {
	file string
	data []byte
	dec  *json.Decoder
}

func parseJSON(file string, data []byte) (*Node, error) {
	r := &jsonReader{file, data, json.NewDecoder(bytes.NewReader(data))}
	r.dec.UseNumber()
	if len(bytes.TrimSpace(data)) == 0 {
		return &Node{Kind: Map, Pos: Pos{1, 1}}, nil
	}
	n, err := r.value(0)
	if err != nil {
		return nil, err
	}
	pos := r.next()
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, &Error{File: file, Pos: pos, Message: "more follows after the end of the document", Hint: "a file holds one JSON value"}
	}
	return n, nil
}

// next returns the place of the token that comes next.
func (r *jsonReader) next() Pos {
	at := int(r.dec.InputOffset())
	for at < len(r.data) && bytes.IndexByte([]byte(" \t\r\n,:"), r.data[at]) >= 0 {
		at++
	}
	return place(r.data, at)
}

// place turns a byte offset into a line and a column.
func place(data []byte, at int) Pos {
	before := data[:min(at, len(data))]
	line := bytes.LastIndexByte(before, '\n')
	return Pos{Line: 1 + bytes.Count(before, []byte{'\n'}), Column: 1 + utf8.RuneCount(before[line+1:])}
}

func (r *jsonReader) token() (json.Token, Pos, error) {
	pos := r.next()
	tok, err := r.dec.Token()
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		at := place(r.data, max(0, int(syntax.Offset)-1))
		return nil, at, &Error{File: r.file, Pos: at, Message: "not JSON: " + syntax.Error(), Hint: "look for a missing comma, quote or brace just before it"}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		at := place(r.data, len(r.data))
		return nil, at, &Error{File: r.file, Pos: at, Message: "the file ends too early", Hint: "close every quote, bracket and brace"}
	case err != nil:
		return nil, pos, &Error{File: r.file, Pos: pos, Message: "not JSON: " + err.Error()}
	}
	return tok, pos, nil
}

func (r *jsonReader) value(depth int) (*Node, error) {
	tok, pos, err := r.token()
	if err != nil {
		return nil, err
	}
	n := &Node{Pos: pos}
	switch v := tok.(type) {
	case nil:
		return n, nil
	case bool:
		n.Kind, n.Text = Bool, map[bool]string{true: "true", false: "false"}[v]
	case json.Number:
		n.Kind, n.Text = Number, v.String()
	case string:
		n.Kind, n.Text = String, v
	case json.Delim:
		if depth >= MaxDepth {
			return nil, deep(r.file, pos)
		}
		if v == '[' {
			return n, r.list(n, depth)
		}
		return n, r.mapping(n, depth)
	}
	return n, nil
}

func (r *jsonReader) list(n *Node, depth int) error {
	n.Kind = List
	for r.dec.More() {
		item, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		n.Items = append(n.Items, item)
	}
	_, _, err := r.token()
	return err
}

func (r *jsonReader) mapping(n *Node, depth int) error {
	n.Kind = Map
	for r.dec.More() {
		tok, pos, err := r.token()
		if err != nil {
			return err
		}
		key, _ := tok.(string)
		if err := unique(r.file, n.Fields, key, pos); err != nil {
			return err
		}
		value, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		n.Fields = append(n.Fields, Field{Pos: pos, Key: key, Value: value})
	}
	_, _, err := r.token()
	return err
}
