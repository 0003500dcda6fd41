package document

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

type yamlReader struct{ file string }

func parseYAML(file string, data []byte) (root *Node, err error) {
	r := yamlReader{file}
	if err := r.guard(string(data)); err != nil {
		return nil, err
	}
	// The parser has panicked on hostile text before; a spec file is read from
	// whoever wrote it.
	defer func() {
		if p := recover(); p != nil {
			root, err = nil, &Error{File: file, Message: "the file is not YAML that can be read", Hint: "check indentation and quotes"}
		}
	}()
	parsed, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, r.syntax(err)
	}
	return r.document(parsed)
}

// maxRun bounds brackets that are open at once and dashes in one line, for a
// parser that recurses on them.
const maxRun = 256

// guard refuses text whose nesting would exhaust the parser's stack.
func (r yamlReader) guard(text string) error {
	open, line := 0, 0
	for l := range strings.Lines(text) {
		line++
		if strings.Count(l, "- ")+strings.Count(l, "? ") > maxRun*16 || strings.HasPrefix(strings.TrimLeft(l, " "), strings.Repeat("- ", maxRun)) {
			return deep(r.file, Pos{line, 1})
		}
		for _, c := range l {
			switch c {
			case '[', '{':
				open++
			case ']', '}':
				open = max(0, open-1)
			}
		}
		if open > maxRun {
			return deep(r.file, Pos{line, 1})
		}
	}
	return nil
}

func (r yamlReader) syntax(err error) error {
	var at yaml.Error
	if !errors.As(err, &at) || at.GetToken() == nil {
		return &Error{File: r.file, Message: "not YAML: " + firstLine(err.Error()), Hint: "check indentation and quotes"}
	}
	hint := "check the indentation, the colons and the quotes there"
	if strings.Contains(at.GetMessage(), "tab") || strings.Contains(at.GetToken().Origin, "\t") {
		hint = "indent with spaces; YAML knows no tabs"
	}
	return &Error{File: r.file, Pos: posOf(at.GetToken()), Message: "not YAML: " + firstLine(at.GetMessage()), Hint: hint}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	if len(line) > 200 {
		line = line[:200]
	}
	return line
}

func posOf(t *token.Token) Pos {
	if t == nil || t.Position == nil {
		return Pos{1, 1}
	}
	return Pos{Line: max(1, t.Position.Line), Column: max(1, t.Position.Column)}
}

func (r yamlReader) fail(n ast.Node, hint, format string, args ...any) error {
	return &Error{File: r.file, Pos: posOf(n.GetToken()), Message: fmt.Sprintf(format, args...), Hint: hint}
}

func (r yamlReader) document(f *ast.File) (*Node, error) {
	var root *Node
	for _, d := range f.Docs {
		if d.Body == nil || d.Body.Type() == ast.CommentType || d.Body.Type() == ast.CommentGroupType {
			continue
		}
		if d.Body.Type() == ast.DirectiveType {
			return nil, r.fail(d.Body, "leave it out", "a YAML directive is not understood")
		}
		if root != nil {
			return nil, r.fail(d.Body, "list several workloads under workloads:", "the file holds a second document")
		}
		n, err := r.node(d.Body, 0)
		if err != nil {
			return nil, err
		}
		root = n
	}
	if root == nil {
		root = &Node{Kind: Map, Pos: Pos{1, 1}}
	}
	return root, nil
}

func (r yamlReader) node(n ast.Node, depth int) (*Node, error) {
	if n == nil {
		return &Node{Pos: Pos{1, 1}}, nil
	}
	out := &Node{Pos: posOf(n.GetToken())}
	if depth > MaxDepth {
		return nil, deep(r.file, out.Pos)
	}
	switch v := n.(type) {
	case *ast.NullNode:
		return out, nil
	case *ast.StringNode:
		out.Kind, out.Text = String, v.Value
	case *ast.LiteralNode:
		out.Kind, out.Text = String, v.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		out.Kind, out.Text = Number, n.GetToken().Value
	case *ast.BoolNode:
		out.Kind, out.Text = Bool, fmt.Sprint(v.Value)
	case *ast.SequenceNode:
		return out, r.sequence(out, v, depth)
	case *ast.MappingNode:
		return out, r.mapping(out, v.Values, depth)
	case *ast.MappingValueNode:
		return out, r.mapping(out, []*ast.MappingValueNode{v}, depth)
	case *ast.AnchorNode, *ast.AliasNode:
		return nil, r.fail(n, "write the value out", "anchors and aliases are not understood")
	case *ast.TagNode:
		return nil, r.fail(n, "leave the tag out", "YAML tags are not understood")
	default:
		return nil, r.fail(n, "write a mapping, a list or a plain value", "%s is not understood here", n.Type())
	}
	return out, nil
}

func (r yamlReader) sequence(out *Node, n *ast.SequenceNode, depth int) error {
	out.Kind = List
	for _, v := range n.Values {
		item, err := r.node(v, depth+1)
		if err != nil {
			return err
		}
		out.Items = append(out.Items, item)
	}
	return nil
}

func (r yamlReader) mapping(out *Node, values []*ast.MappingValueNode, depth int) error {
	out.Kind = Map
	for i, v := range values {
		_, ok := v.Key.(ast.ScalarNode)
		if !ok || v.Key.Type() == ast.MergeKeyType || v.Key.Type() == ast.AliasType || v.Key.Type() == ast.AnchorType {
			return r.fail(v.Key, "write each field out", "%s is not a field's name", v.Key.Type())
		}
		f := Field{Pos: posOf(v.Key.GetToken()), Key: v.Key.GetToken().Value}
		if i == 0 {
			out.Pos = f.Pos
		}
		if err := unique(r.file, out.Fields, f.Key, f.Pos); err != nil {
			return err
		}
		var err error
		if f.Value, err = r.node(v.Value, depth+1); err != nil {
			return err
		}
		if f.Value.Kind == Null {
			f.Value.Pos = f.Pos
		}
		out.Fields = append(out.Fields, f)
	}
	return nil
}
