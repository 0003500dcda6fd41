package workload

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a placement condition.
const (
	MaxWhere      = 1024 // bytes
	maxWhereDepth = 32   // parentheses and negations inside each other
	maxWhyMissed  = 200  // bytes of Mismatch, so that it fits a Reason's note
)

// Where is a parsed placement condition over the facts of a machine, such as
//
//	arch==amd64 && zone!=attic
//	cores>=8 && memory>=16GiB
//	(gpu || zone=="a b") && !arm
//
// `!` binds tighter than `&&`, and `&&` tighter than `||`. A name alone is true
// when the fact is there and is none of "", "0", "false", "no" and "off". A
// value that is not quoted and is a number compares as one, with an optional
// size suffix (k, M, G, T, P for powers of 1000, Ki to Pi for powers of 1024,
// with or without B); any other value compares byte by byte. `<`, `<=`, `>` and
// `>=` take numbers only. An absent fact is "" to == and !=, and never greater
// or smaller than anything.
//
// The zero Where matches everything. A Where is immutable.
type Where struct {
	text string
	root *term
}

// term is a node of the condition: a comparison when op is one, else a name
// alone (opHas) or a combination of terms.
type term struct {
	op    whereOp
	terms []*term // of opAnd and opOr two or more, of opNot one
	key   string
	want  string
	num   number // of want, when it is to be compared as a number
	text  string // as it was written
}

type whereOp uint8

const (
	opHas whereOp = iota
	opNot
	opAnd
	opOr
	opEq
	opNe
	opGe
	opLe
	opGt
	opLt
)

// Match reports whether facts meet the condition.
func (w Where) Match(facts map[string]string) bool {
	return w.root == nil || w.root.holds(facts)
}

// Keys returns the names that the condition mentions, sorted, each once.
func (w Where) Keys() []string {
	seen := map[string]bool{}
	var walk func(t *term)
	walk = func(t *term) {
		if t == nil {
			return
		}
		if t.key != "" {
			seen[t.key] = true
		}
		for _, each := range t.terms {
			walk(each)
		}
	}
	walk(w.root)
	return slices.Sorted(maps.Keys(seen))
}

// Labels returns the labels that a machine must carry with a certain value to
// meet the condition: its equalities, joined by && alone, of names that are not
// built in. It is what a class key of the DHT can be asked for.
func (w Where) Labels() map[string]string {
	out := map[string]string{}
	var walk func(t *term)
	walk = func(t *term) {
		switch {
		case t == nil:
		case t.op == opAnd:
			for _, each := range t.terms {
				walk(each)
			}
		case t.op == opEq && t.want != "" && !builtIn(t.key):
			out[t.key] = t.want
		}
	}
	walk(w.root)
	return out
}

// builtIn reports whether a fact is the machine's own and never a label.
func builtIn(name string) bool {
	switch name {
	case "arch", "os", "name", "version", "cores", "threads", "smt", "memory", "disk", "slots", "declared":
		return true
	}
	return reservedFact(name)
}

// String returns the condition as it was written.
func (w Where) String() string { return w.text }

// Mismatch returns which part of the condition failed and what the fact is
// instead, in words and at most 200 bytes, or "" when facts meet it.
func (w Where) Mismatch(facts map[string]string) string {
	if w.Match(facts) {
		return ""
	}
	return clip(w.root.missed(facts, true), maxWhyMissed)
}

func (t *term) holds(facts map[string]string) bool {
	switch t.op {
	case opAnd:
		return !slices.ContainsFunc(t.terms, func(s *term) bool { return !s.holds(facts) })
	case opOr:
		return slices.ContainsFunc(t.terms, func(s *term) bool { return s.holds(facts) })
	case opNot:
		return !t.terms[0].holds(facts)
	case opHas:
		return truthy(facts[t.key])
	}
	return t.compare(facts[t.key])
}

func truthy(v string) bool {
	switch strings.ToLower(v) {
	case "", "0", "false", "no", "off":
		return false
	}
	return true
}

// compare reports whether the fact have meets the comparison t.
func (t *term) compare(have string) bool {
	got, isNumber := number{}, false
	if t.num.ok {
		got, isNumber = parseNumber(have)
	}
	switch t.op {
	case opEq:
		return have == t.want || isNumber && got.value == t.num.value
	case opNe:
		return have != t.want && !(isNumber && got.value == t.num.value)
	}
	if !isNumber {
		return false
	}
	switch t.op {
	case opGe:
		return got.value >= t.num.value
	case opLe:
		return got.value <= t.num.value
	case opGt:
		return got.value > t.num.value
	}
	return got.value < t.num.value
}

// missed explains why t did not come out as want. A conjunction that failed
// names its first failed part; a disjunction that failed names them all.
func (t *term) missed(facts map[string]string, want bool) string {
	switch t.op {
	case opNot:
		return t.terms[0].missed(facts, !want)
	case opAnd, opOr:
		parts := make([]string, 0, len(t.terms))
		for _, s := range t.terms {
			if s.holds(facts) != want {
				parts = append(parts, s.missed(facts, want))
			}
		}
		if (t.op == opAnd) == want {
			return parts[0]
		}
		return strings.Join(parts, "; and ")
	}
	have, known := facts[t.key]
	wanted := t.text
	if !want {
		wanted = "!(" + t.text + ")"
	}
	if !known {
		return fmt.Sprintf("%s, but %s is not set", wanted, t.key)
	}
	return fmt.Sprintf("%s, but %s is %s", wanted, t.key, t.show(have))
}

// show prints a fact in the unit of the wanted value.
func (t *term) show(have string) string {
	if got, ok := parseNumber(have); ok && t.num.ok {
		if t.num.suffix == "" {
			return have
		}
		return strconv.FormatFloat(got.value/t.num.unit, 'g', 4, 64) + t.num.suffix
	}
	return strconv.Quote(clip(have, 40))
}

// clip cuts s to at most n bytes, on a character, and marks the cut.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	n -= len("…")
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// number is a decimal number with an optional size suffix. Values up to 2^53
// are exact.
type number struct {
	ok     bool
	value  float64
	unit   float64 // what the suffix multiplies by
	suffix string
}

var sizeUnits = map[string]float64{
	"": 1, "b": 1,
	"k": 1e3, "kb": 1e3, "ki": 1 << 10, "kib": 1 << 10,
	"m": 1e6, "mb": 1e6, "mi": 1 << 20, "mib": 1 << 20,
	"g": 1e9, "gb": 1e9, "gi": 1 << 30, "gib": 1 << 30,
	"t": 1e12, "tb": 1e12, "ti": 1 << 40, "tib": 1 << 40,
	"p": 1e15, "pb": 1e15, "pi": 1 << 50, "pib": 1 << 50,
}

// parseNumber reads an optional minus, digits, an optional point with digits
// and an optional size suffix in either case: 8, 1.5GiB, -3, 200k.
func parseNumber(s string) (number, bool) {
	if len(s) > 40 {
		return number{}, false
	}
	digits := strings.TrimRightFunc(s, unicode.IsLetter)
	suffix := s[len(digits):]
	unit, known := sizeUnits[strings.ToLower(suffix)]
	if !known || !isDecimal(strings.TrimPrefix(digits, "-")) {
		return number{}, false
	}
	v, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return number{}, false
	}
	return number{ok: true, value: v * unit, unit: unit, suffix: suffix}, true
}

func isDecimal(s string) bool {
	whole, frac, point := strings.Cut(s, ".")
	return allDigits(whole) && (!point || allDigits(frac))
}

func allDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// Facts returns what a placement condition can ask of m: arch, os, name,
// version, cores, threads, smt, memory and disk (bytes), slots, declared, one
// "true" each for kind-KIND, wall-WALL and attest-KIND, and the machine's
// labels under their own names. A label cannot stand in for a built-in name.
func (m *Machine) Facts() map[string]string {
	facts := make(map[string]string, len(m.Labels)+16)
	for name, value := range m.Labels {
		if !reservedFact(name) {
			facts[name] = value
		}
	}
	whole := func(n int64) string { return strconv.FormatInt(n, 10) }
	facts["arch"], facts["os"], facts["name"], facts["version"] = m.Arch, m.OS, m.Name, m.Version
	facts["cores"], facts["threads"] = whole(int64(m.Total.Cores)), whole(int64(m.Total.Threads))
	facts["memory"], facts["disk"] = whole(m.Total.Memory), whole(m.Total.Disk)
	facts["smt"], facts["slots"] = whole(int64(m.SMT)), whole(int64(m.Total.Slots))
	facts["declared"] = strconv.FormatBool(m.Declared)
	for _, kind := range m.Kinds {
		facts["kind-"+string(kind)] = "true"
	}
	for _, wall := range m.Walls {
		facts["wall-"+wall] = "true"
	}
	for _, kind := range m.Attests {
		facts["attest-"+kind] = "true"
	}
	return facts
}

// reservedFact reports whether a label of this name would claim something that
// only the node's own tests may say.
func reservedFact(name string) bool {
	return strings.HasPrefix(name, "kind-") || strings.HasPrefix(name, "wall-") || strings.HasPrefix(name, "attest-")
}
