package workload

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ParseWhere parses a condition of at most MaxWhere bytes. An empty one (or
// only spaces) matches everything. An error names the column, counted in
// characters from 1, and what to write instead.
func ParseWhere(s string) (Where, error) {
	if len(s) > MaxWhere {
		return Where{}, fmt.Errorf("where: %d bytes long, at most %d", len(s), MaxWhere)
	}
	if !utf8.ValidString(s) {
		return Where{}, fmt.Errorf("where: not valid UTF-8")
	}
	p := &whereParser{src: s}
	if err := p.next(); err != nil {
		return Where{}, err
	}
	if p.tok.kind == tokEnd {
		return Where{text: s}, nil
	}
	root, err := p.either()
	if err != nil {
		return Where{}, err
	}
	if p.tok.kind != tokEnd {
		return Where{}, p.unexpected()
	}
	return Where{text: s, root: root}, nil
}

// token is one piece of the source; text is as written, value without quotes.
type token struct {
	kind  tokenKind
	text  string
	value string
	at    int // byte offset
}

type tokenKind uint8

const (
	tokEnd tokenKind = iota
	tokWord
	tokQuoted
	tokOp
)

type whereParser struct {
	src   string
	pos   int // of the byte after tok
	tok   token
	depth int
}

// errorAt returns an error at byte offset at.
func (p *whereParser) errorAt(at int, format string, args ...any) error {
	column := utf8.RuneCountInString(p.src[:at]) + 1
	return fmt.Errorf("where: column %d: %s", column, fmt.Sprintf(format, args...))
}

// unexpected says what belongs where a complete condition was followed by more.
func (p *whereParser) unexpected() error {
	switch word := p.tok.text; {
	case strings.EqualFold(word, "and"):
		return p.errorAt(p.tok.at, "write && for %q", word)
	case strings.EqualFold(word, "or"):
		return p.errorAt(p.tok.at, "write || for %q", word)
	case word == ")":
		return p.errorAt(p.tok.at, "this ) has no ( before it")
	case p.tok.kind == tokOp && isComparison(word):
		return p.errorAt(p.tok.at, "one comparison at a time; join two with &&")
	}
	return p.errorAt(p.tok.at, "want && or || before %s; quote a value that has spaces", clip(p.tok.text, 40))
}

func isComparison(op string) bool { return comparisons[op] != 0 }

var comparisons = map[string]whereOp{"==": opEq, "!=": opNe, ">=": opGe, "<=": opLe, ">": opGt, "<": opLt}

// either parses a, a || b, …
func (p *whereParser) either() (*term, error) { return p.joined("||", opOr, p.both) }

// both parses a, a && b, …
func (p *whereParser) both() (*term, error) { return p.joined("&&", opAnd, p.single) }

func (p *whereParser) joined(sign string, op whereOp, part func() (*term, error)) (*term, error) {
	var terms []*term
	for {
		t, err := part()
		if err != nil {
			return nil, err
		}
		terms = append(terms, t)
		if p.tok.kind != tokOp || p.tok.text != sign {
			break
		}
		if err := p.next(); err != nil {
			return nil, err
		}
	}
	if len(terms) == 1 {
		return terms[0], nil
	}
	return &term{op: op, terms: terms}, nil
}

// single parses !a, ( a ), a name or a comparison.
func (p *whereParser) single() (*term, error) {
	tok := p.tok
	if tok.kind == tokOp && (tok.text == "!" || tok.text == "(") {
		return p.nested(tok)
	}
	if tok.kind != tokWord {
		return nil, p.wantName(tok)
	}
	if !isFactName(tok.text) {
		return nil, p.errorAt(tok.at, "%q is not a fact's name; the name comes first, as in cores>=8", clip(tok.text, 40))
	}
	if strings.EqualFold(tok.text, "not") {
		return nil, p.errorAt(tok.at, "write ! for %q", tok.text)
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	if p.tok.kind == tokOp && isComparison(p.tok.text) {
		return p.comparison(tok)
	}
	return &term{op: opHas, key: tok.text, text: tok.text}, nil
}

func (p *whereParser) wantName(tok token) error {
	switch {
	case tok.kind == tokEnd:
		return p.errorAt(tok.at, "the condition ends too early; want a fact's name, as in arch==amd64")
	case tok.kind == tokQuoted:
		return p.errorAt(tok.at, "a fact's name is not quoted; the name comes first, as in zone==\"a b\"")
	}
	return p.errorAt(tok.at, "want a fact's name before %s, as in arch==amd64", tok.text)
}

func (p *whereParser) nested(open token) (*term, error) {
	if p.depth++; p.depth > maxWhereDepth {
		return nil, p.errorAt(open.at, "more than %d parentheses and negations inside each other", maxWhereDepth)
	}
	defer func() { p.depth-- }()
	if err := p.next(); err != nil {
		return nil, err
	}
	if open.text == "!" {
		t, err := p.single()
		if err != nil {
			return nil, err
		}
		return &term{op: opNot, terms: []*term{t}}, nil
	}
	t, err := p.either()
	if err != nil {
		return nil, err
	}
	if p.tok.kind == tokEnd {
		return nil, p.errorAt(open.at, "this ( is not closed; add )")
	}
	if p.tok.text != ")" || p.tok.kind != tokOp {
		return nil, p.unexpected()
	}
	return t, p.next()
}

// comparison parses the operator and the value after name.
func (p *whereParser) comparison(name token) (*term, error) {
	op := comparisons[p.tok.text]
	sign := p.tok.text
	if err := p.next(); err != nil {
		return nil, err
	}
	value := p.tok
	if value.kind != tokWord && value.kind != tokQuoted {
		return nil, p.errorAt(value.at, "want a value after %s%s; write \"\" for an empty one", name.text, sign)
	}
	t := &term{op: op, key: name.text, want: value.value, text: name.text + sign + value.text}
	if value.kind == tokWord {
		t.num, _ = parseNumber(value.value)
	}
	if op != opEq && op != opNe && !t.num.ok {
		return nil, p.errorAt(value.at, "%s compares numbers; want one such as 8 or 16GiB, not %s", sign, clip(value.text, 40))
	}
	return t, p.next()
}

// isFactName reports whether s is a letter followed by letters, digits and _ - . /
func isFactName(s string) bool {
	for i, r := range s {
		if unicode.IsLetter(r) || i > 0 && (unicode.IsDigit(r) || strings.ContainsRune("_-./", r)) {
			continue
		}
		return false
	}
	return s != ""
}

// next reads the next token into p.tok.
func (p *whereParser) next() error {
	for p.pos < len(p.src) && strings.IndexByte(" \t\r\n", p.src[p.pos]) >= 0 {
		p.pos++
	}
	rest := p.src[p.pos:]
	if rest == "" {
		p.tok = token{kind: tokEnd, at: p.pos}
		return nil
	}
	if rest[0] == '"' || rest[0] == '\'' {
		return p.quoted(rest)
	}
	if n := strings.IndexFunc(rest, endsWord); n != 0 {
		if n < 0 {
			n = len(rest)
		}
		return p.take(token{kind: tokWord, text: rest[:n], value: rest[:n]})
	}
	for _, op := range []string{"==", "!=", ">=", "<=", "&&", "||", ">", "<", "!", "(", ")"} {
		if strings.HasPrefix(rest, op) {
			return p.take(token{kind: tokOp, text: op})
		}
	}
	return p.badSign(rest)
}

func (p *whereParser) take(t token) error {
	t.at = p.pos
	p.pos += len(t.text)
	p.tok = t
	return nil
}

func endsWord(r rune) bool {
	return strings.ContainsRune("=!<>&|()\"'", r) || unicode.IsSpace(r) || unicode.IsControl(r)
}

func (p *whereParser) badSign(rest string) error {
	r, _ := utf8.DecodeRuneInString(rest)
	if strings.ContainsRune("=&|", r) {
		return p.errorAt(p.pos, "write %c%c for %c", r, r, r)
	}
	return p.errorAt(p.pos, "%q does not belong here; quote a value that has it", r)
}

// quoted reads a value in " or '; a backslash before either or before itself
// takes it as it is.
func (p *whereParser) quoted(rest string) error {
	var value strings.Builder
	for i := 1; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == rest[0]:
			return p.take(token{kind: tokQuoted, text: rest[:i+1], value: value.String()})
		case c == '\\' && i+1 < len(rest) && strings.IndexByte(`"'\`, rest[i+1]) >= 0:
			i++
			value.WriteByte(rest[i])
		default:
			value.WriteByte(c)
		}
	}
	return p.errorAt(p.pos, "this %c is not closed", rest[0])
}
