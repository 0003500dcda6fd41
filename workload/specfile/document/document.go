// Package document reads YAML and JSON into one tree whose every node knows its
// line and column, so that whoever checks the content can say where it is wrong.
//
// It is a subset of YAML: one document, mappings with plain string keys,
// sequences and scalars. Anchors, aliases, merge keys and tags are refused, so a
// small file is never a large tree.
package document

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of a document.
const (
	MaxBytes = 4 << 20
	MaxDepth = 32
)

// Kind is the kind of a node.
type Kind int

// The kinds.
const (
	Null Kind = iota
	String
	Number
	Bool
	List
	Map
)

var kindNames = map[Kind]string{
	Null: "nothing", String: "a text", Number: "a number", Bool: "true or false", List: "a list", Map: "a mapping",
}

// String returns the kind in words, with its article.
func (k Kind) String() string { return kindNames[k] }

// Pos is a place in the document, both counted from 1, the column in characters.
type Pos struct {
	Line   int
	Column int
}

// Node is one value.
type Node struct {
	Pos
	Kind   Kind
	Text   string // of a scalar, without quotes
	Items  []*Node
	Fields []Field
}

// Field is one entry of a Map. Keys are unique.
type Field struct {
	Pos
	Key   string
	Value *Node
}

// Get returns the value of a field, or nil.
func (n *Node) Get(key string) *Node {
	for _, f := range n.Fields {
		if f.Key == key {
			return f.Value
		}
	}
	return nil
}

// Error is what is wrong with a document, where, and what to write instead.
type Error struct {
	File string
	Pos
	Message string
	Hint    string
}

// Error returns FILE:LINE:COLUMN: MESSAGE.
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// Parse reads a document. A file that ends in .json, or any that begins with a
// brace and is JSON, is read as JSON, everything else as YAML. An error is an
// *Error. An empty document is an empty Map.
func Parse(file string, data []byte) (*Node, error) {
	switch {
	case len(data) > MaxBytes:
		return nil, &Error{File: file, Message: fmt.Sprintf("the file is longer than %d bytes", MaxBytes),
			Hint: "a workload file describes work: have `map` make a task for each input, and ship data as inputs"}
	case !utf8.Valid(data):
		return nil, &Error{File: file, Message: "the file is not UTF-8 text", Hint: "is it the right file?"}
	}
	if strings.HasSuffix(file, ".json") || looksLikeJSON(data) {
		return parseJSON(file, data)
	}
	return parseYAML(file, data)
}

// Nearest returns the candidate that word is most likely a slip of, or "".
func Nearest(word string, candidates []string) string {
	best, distance := "", max(2, len(word)/3)+1
	for _, c := range slices.Sorted(slices.Values(candidates)) {
		if d := edits(fold(word), fold(c)); d < distance {
			best, distance = c, d
		}
	}
	return best
}

func fold(s string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s))
}

// edits is the Levenshtein distance of two words (at most 64 bytes of each).
func edits(a, b string) int {
	a, b = a[:min(len(a), 64)], b[:min(len(b), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// deep returns the error for nesting beyond MaxDepth.
func deep(file string, pos Pos) error {
	return &Error{File: file, Pos: pos, Message: fmt.Sprintf("more than %d levels inside each other", MaxDepth), Hint: "flatten it"}
}

// unique returns an error when a key of a mapping is there already.
func unique(file string, fields []Field, key string, pos Pos) error {
	for _, f := range fields {
		if f.Key == key {
			return &Error{File: file, Pos: pos, Message: fmt.Sprintf("%.60q is given twice (first in line %d)", key, f.Line), Hint: "keep one of them"}
		}
	}
	return nil
}
