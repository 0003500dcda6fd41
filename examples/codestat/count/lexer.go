package count

// lexer reads one file.
type lexer struct {
	src    []byte
	pos    int
	line   int // of pos
	broken bool
	ends   bool // the last token can end a declaration
	words  *words
	fn     functions

	codeLine, commentLine int // the last line counted as such
	code, comment         int
}

func (l *lexer) run() {
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case c == '\n':
			if l.ends {
				l.fn.semicolon()
				l.ends = false
			}
			l.newline()
			l.pos++
		case c == ' ' || c == '\t' || c == '\r':
			l.pos++
		case isLetter[c]:
			l.word()
		default:
			l.other(c)
		}
	}
	if l.ends {
		l.fn.semicolon()
	}
}

// newline begins a line, unless nothing follows: that is none.
func (l *lexer) newline() {
	if l.pos+1 < len(l.src) {
		l.line++
	}
}

// isLetter holds what a word is made of; every byte of a character beyond
// ASCII counts, as only letters may stand outside of literals and comments.
var isLetter, isDigit = func() (letter, digit [256]bool) {
	for c := range 256 {
		digit[c] = '0' <= c && c <= '9'
		letter[c] = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c >= 0x80
	}
	return letter, digit
}()

func (l *lexer) word() {
	start, hash := l.pos, uint32(hashStart)
	for l.pos < len(l.src) && (isLetter[l.src[l.pos]] || isDigit[l.src[l.pos]]) {
		hash = (hash ^ uint32(l.src[l.pos])) * hashFactor
		l.pos++
	}
	w := l.src[start:l.pos]
	l.codes(l.line)
	if isKeyword(w) {
		l.ends = string(w) == "return" || string(w) == "break" || string(w) == "continue" || string(w) == "fallthrough"
		l.fn.keyword(string(w) == "func", l.line)
		return
	}
	l.ends = true
	l.fn.ident(l.words.use(w, hash))
}

// other reads a token that is no word.
func (l *lexer) other(c byte) {
	switch {
	case c == '/' && l.at(1) == '/':
		l.lineComment()
		return
	case c == '/' && l.at(1) == '*':
		l.comments()
		return
	}
	first := l.line
	l.pos++
	l.ends = true
	switch {
	case isDigit[c]:
		l.number(c)
	case c == '"' || c == '\'':
		l.quoted(c)
	case c == '`':
		l.raw()
	case c == '(' || c == '[' || c == '{':
		l.fn.open(c)
		l.ends = false
	case c == ')' || c == ']' || c == '}':
		l.fn.close(c, l.line)
	case c == ';':
		l.fn.semicolon()
		l.ends = false
	default:
		l.fn.operator()
		l.ends = (c == '+' || c == '-') && l.pos > 1 && l.src[l.pos-2] == c
	}
	l.codes(first)
}

func (l *lexer) at(ahead int) byte {
	if l.pos+ahead < len(l.src) {
		return l.src[l.pos+ahead]
	}
	return 0
}

// number reads past a number, of any base, with its exponent.
func (l *lexer) number(first byte) {
	hex := first == '0' && l.at(0)|0x20 == 'x'
	for ; l.pos < len(l.src); l.pos++ {
		c, before := l.src[l.pos], l.src[l.pos-1]|0x20
		sign := (c == '+' || c == '-') && (before == 'p' || before == 'e' && !hex)
		if !isLetter[c] && !isDigit[c] && c != '.' && !sign {
			return
		}
	}
}

func (l *lexer) quoted(quote byte) {
	for ; l.pos < len(l.src) && l.src[l.pos] != '\n'; l.pos++ {
		switch l.src[l.pos] {
		case quote:
			l.pos++
			return
		case '\\':
			if l.at(1) != '\n' {
				l.pos++
			}
		}
	}
	l.pos = min(l.pos, len(l.src))
	l.broken = true
}

func (l *lexer) raw() {
	for ; l.pos < len(l.src); l.pos++ {
		switch l.src[l.pos] {
		case '`':
			l.pos++
			return
		case '\n':
			l.newline()
		}
	}
	l.broken = true
}

func (l *lexer) lineComment() {
	for l.pos < len(l.src) && l.src[l.pos] != '\n' {
		l.pos++
	}
	l.commented(l.line)
}

// comments reads a comment of the other kind, which acts like a line end when
// it contains one.
func (l *lexer) comments() {
	first := l.line
	for l.pos += 2; ; l.pos++ {
		if l.pos >= len(l.src) {
			l.broken = true
			break
		}
		if l.src[l.pos] == '\n' {
			l.newline()
		}
		if l.src[l.pos] == '*' && l.at(1) == '/' {
			l.pos += 2
			break
		}
	}
	l.commented(first)
	if l.ends && l.line > first {
		l.fn.semicolon()
		l.ends = false
	}
}

// codes counts the lines from first to here as code, each once. A line that
// was counted as a comment is code after all.
func (l *lexer) codes(first int) {
	if first == l.commentLine && first > l.codeLine {
		l.comment--
		l.commentLine--
	}
	l.code += l.line - max(first-1, l.codeLine)
	l.codeLine = l.line
}

// commented counts the lines from first to here that are not counted yet.
func (l *lexer) commented(first int) {
	from := max(first, l.codeLine+1, l.commentLine+1)
	if l.line >= from {
		l.comment += l.line - from + 1
		l.commentLine = l.line
	}
}

// functions follows the declarations on the top level of a file.
type functions struct {
	depth   int  // of brackets of any kind
	started bool // a declaration has begun
	count   int
	report  func(title string, lines int)

	line     int    // of the func that is being read, 0 outside
	name     string // of it, once read
	receiver string // the name of the receiver's type
	inRecv   bool
	params   bool // within the type parameters of the receiver
}

// operator notes a token that means nothing else here.
func (f *functions) operator() { f.started = f.started || f.depth == 0 }

func (f *functions) keyword(isFunc bool, line int) {
	if isFunc && f.depth == 0 && !f.started {
		f.line, f.name, f.receiver, f.inRecv, f.params = line, "", "", false, false
	}
	f.operator()
}

func (f *functions) ident(name string) {
	switch {
	case f.line == 0 || f.name != "":
	case f.depth == 0:
		f.name = name
	case f.inRecv && !f.params:
		f.receiver = name
	}
	f.operator()
}

func (f *functions) open(c byte) {
	f.operator()
	if f.line > 0 && f.name == "" {
		f.inRecv = f.inRecv || f.depth == 0 && c == '('
		f.params = f.params || c == '['
	}
	f.depth++
}

func (f *functions) close(c byte, line int) {
	f.depth = max(0, f.depth-1)
	if f.depth > 0 {
		return
	}
	f.inRecv, f.started = false, true
	if c == '}' && f.name != "" {
		title := f.name
		if f.receiver != "" {
			title = f.receiver + "." + f.name
		}
		f.report(title, line-f.line+1)
	}
}

// semicolon ends a declaration on the top level.
func (f *functions) semicolon() {
	if f.depth > 0 {
		return
	}
	if f.name != "" {
		f.count++
	}
	f.started, f.line, f.name = false, 0, ""
}

// isKeyword is a switch, which a compiler makes a search by length of.
func isKeyword(w []byte) bool {
	switch string(w) {
	case "break", "case", "chan", "const", "continue", "default", "defer", "else", "fallthrough", "for", "func", "go", "goto", "if",
		"import", "interface", "map", "package", "range", "return", "select", "struct", "switch", "type", "var":
		return true
	}
	return false
}
