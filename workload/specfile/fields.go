package specfile

import (
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

// fields calls the reader of each field of n and refuses what has none.
func (r *reader) fields(n *document.Node, where string, readers map[string]func(*document.Node)) {
	names := slices.Sorted(maps.Keys(readers))
	for _, f := range n.Fields {
		if read, ok := readers[f.Key]; ok {
			read(f.Value)
			continue
		}
		hint := "the fields are " + strings.Join(slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s == "$schema" }), ", ")
		if near := document.Nearest(f.Key, names); near != "" {
			hint = fmt.Sprintf("did you mean %s?", near)
		}
		r.fail(f.Pos, hint, "unknown field %.60q %s", f.Key, where)
	}
}

func (r *reader) ignored(*document.Node) {}

// text reads a string or a number as it is written, of at most limit bytes.
func (r *reader) text(field string, limit int, to *string) func(*document.Node) {
	return func(n *document.Node) {
		if n.Kind != document.String && n.Kind != document.Number {
			r.fail(n.Pos, quoteHint(n), "%s: want a text, got %s", field, n.Kind)
			return
		}
		if len(n.Text) > limit || strings.ContainsRune(n.Text, 0) {
			r.fail(n.Pos, "", "%s: want a text of at most %d bytes without zero bytes", field, limit)
			return
		}
		*to = n.Text
	}
}

func quoteHint(n *document.Node) string {
	if n.Kind == document.Bool {
		return fmt.Sprintf("write %q in quotes when the word is meant", n.Text)
	}
	return ""
}

// word is text with its place; it must not be empty.
func (r *reader) word(field string, limit int, to *Text) func(*document.Node) {
	return func(n *document.Node) {
		before := len(r.errs)
		r.text(field, limit, &to.Value)(n)
		to.Pos = n.Pos
		if to.Value == "" && len(r.errs) == before {
			r.fail(n.Pos, "leave the field out or give it a value", "%s: is empty", field)
		}
	}
}

// texts reads a list of strings.
func (r *reader) texts(field string, limit int, to *[]string) func(*document.Node) {
	return func(n *document.Node) {
		for _, item := range r.list(field, n, limit) {
			var s string
			if item.Kind == document.Bool {
				s = item.Text
			} else {
				r.text(field, maxText, &s)(item)
			}
			*to = append(*to, s)
		}
	}
}

// maxText bounds a value of no particular meaning, in bytes.
const maxText = 64 << 10

func (r *reader) list(field string, n *document.Node, limit int) []*document.Node {
	switch {
	case n.Kind != document.List:
		r.fail(n.Pos, "write ["+n.Text+"], or each item after a dash", "%s: want a list, got %s", field, n.Kind)
		return nil
	case len(n.Items) > limit:
		r.fail(n.Pos, "", "%s: %d are listed, at most %d", field, len(n.Items), limit)
		return nil
	}
	return n.Items
}

// pairs reads a mapping of texts.
func (r *reader) pairs(field string, limit int, good func(name string) bool, to *map[string]string) func(*document.Node) {
	return func(n *document.Node) {
		if n.Kind != document.Map {
			r.fail(n.Pos, "write NAME: VALUE below it", "%s: want a mapping, got %s", field, n.Kind)
			return
		}
		if len(n.Fields) > limit {
			r.fail(n.Pos, "", "%s: %d are listed, at most %d", field, len(n.Fields), limit)
			return
		}
		*to = make(map[string]string, len(n.Fields))
		for _, f := range n.Fields {
			if !good(f.Key) {
				r.fail(f.Pos, "", "%s: %.60q cannot be a name here", field, f.Key)
				continue
			}
			value := ""
			if f.Value.Kind == document.Bool {
				value = f.Value.Text
			} else if f.Value.Kind != document.Null {
				r.text(field+"."+f.Key, maxText, &value)(f.Value)
			}
			(*to)[f.Key] = value
		}
	}
}

func envName(s string) bool   { return s != "" && !strings.ContainsAny(s, "=\x00") }
func labelName(s string) bool { return s != "" && len(s) <= 63 }

// whole reads a whole number in a range.
func (r *reader) whole(field string, low, high int64, to func(int64)) func(*document.Node) {
	return func(n *document.Node) {
		v, err := strconv.ParseInt(strings.ReplaceAll(n.Text, "_", ""), 10, 64)
		if n.Kind != document.Number || err != nil || v < low || v > high {
			want := fmt.Sprintf("from %d to %d", low, high)
			if high == math.MaxInt64 {
				want = fmt.Sprintf("of %d or more", low)
			}
			r.fail(n.Pos, "", "%s: want a whole number %s, got %s", field, want, shown(n))
			return
		}
		to(v)
	}
}

func shown(n *document.Node) string {
	if n.Kind == document.String || n.Kind == document.Number || n.Kind == document.Bool {
		return fmt.Sprintf("%.60q", n.Text)
	}
	return n.Kind.String()
}

// size reads an amount of memory or disk.
func (r *reader) size(field string, low, high int64, to *int64) func(*document.Node) {
	return func(n *document.Node) {
		if n.Kind != document.String && n.Kind != document.Number {
			r.fail(n.Pos, "write a size such as 256MiB", "%s: want a size, got %s", field, n.Kind)
			return
		}
		v, err := ParseSize(n.Text)
		switch {
		case err != nil:
			r.fail(n.Pos, "", "%s: %s", field, err)
		case v < low || v > high:
			hint := ""
			if v < low && n.Kind == document.Number {
				hint = fmt.Sprintf("a number alone is bytes; write %sMiB or %sGiB", n.Text, n.Text)
			}
			r.fail(n.Pos, hint, "%s: want %s to 1 PiB, got %.40q", field, map[bool]string{true: "1 MiB", false: "0"}[low > 0], n.Text)
		default:
			*to = v
		}
	}
}

// quota reads an amount of CPU time.
func (r *reader) quota(field string, to *int32) func(*document.Node) {
	return func(n *document.Node) {
		if n.Kind != document.String && n.Kind != document.Number {
			r.fail(n.Pos, "write an amount such as 20% or 1.5", "%s: want CPU time, got %s", field, n.Kind)
			return
		}
		v, err := ParseQuota(n.Text)
		if err != nil {
			r.fail(n.Pos, "", "%s: %s", field, err)
			return
		}
		*to = v
	}
}

// flag reads true or false.
func (r *reader) flag(field string, to *bool) func(*document.Node) {
	return func(n *document.Node) {
		if n.Kind != document.Bool {
			r.fail(n.Pos, "write true or false", "%s: want true or false, got %s", field, shown(n))
			return
		}
		*to = n.Text == "true"
	}
}

// duration reads a time above zero.
func (r *reader) duration(field string, high time.Duration, toMs *int64) func(*document.Node) {
	return func(n *document.Node) {
		if n.Kind != document.String && n.Kind != document.Number {
			r.fail(n.Pos, "write a time such as 10m", "%s: want a time, got %s", field, n.Kind)
			return
		}
		d, err := ParseDuration(n.Text)
		switch {
		case err != nil:
			r.fail(n.Pos, "", "%s: %s", field, err)
		case d < time.Millisecond || d > high:
			r.fail(n.Pos, "", "%s: want 1ms to %d days, got %.40q", field, int(high.Hours()/24), n.Text)
		default:
			*toMs = d.Milliseconds()
		}
	}
}

// choice reads one of a few words.
func (r *reader) choice(field string, to func(string), words ...string) func(*document.Node) {
	return func(n *document.Node) {
		if n.Kind == document.String && slices.Contains(words, n.Text) {
			to(n.Text)
			return
		}
		r.fail(n.Pos, "write "+strings.Join(words, " or "), "%s: want %s, got %s", field, strings.Join(words, " or "), shown(n))
	}
}

func (r *reader) condition(to *string) func(*document.Node) {
	return func(n *document.Node) {
		r.text("where", workload.MaxWhere, to)(n)
		if _, err := workload.ParseWhere(*to); err != nil {
			r.fail(n.Pos, "a condition looks like arch==amd64 && cores>=8 && zone!=attic", "%s", err)
		}
	}
}

// inputs reads a list of PATH and {path: PATH, as: PLACE}.
func (r *reader) inputs(field string, limit int, to *[]Input) func(*document.Node) {
	return func(n *document.Node) {
		for _, item := range r.list(field, n, limit) {
			in := Input{Pos: item.Pos}
			if item.Kind == document.Map {
				r.fields(item, "in an input", map[string]func(*document.Node){
					"path": r.text(field+".path", 4096, &in.Path), "as": r.place(field+".as", &in.As),
				})
			} else {
				r.text(field, 4096, &in.Path)(item)
			}
			if in.Path == "" {
				r.fail(item.Pos, "write a path, or {path: PATH, as: PLACE}", "%s: has no path", field)
			}
			*to = append(*to, in)
		}
	}
}

// place reads a path below the working directory.
func (r *reader) place(field string, to *string) func(*document.Node) {
	return func(n *document.Node) {
		r.text(field, 1024, to)(n)
		clean := path.Clean(*to)
		if *to != "" && (path.IsAbs(clean) || clean == "." || clean == ".." || strings.HasPrefix(clean, "../")) {
			r.fail(n.Pos, "write a relative path such as data/model.bin", "%s: %.60q does not stay inside the working directory", field, *to)
		}
		if *to != "" {
			*to = clean
		}
	}
}
