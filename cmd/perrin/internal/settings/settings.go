package settings

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	machine "github.com/perrin-mesh/perrin/node/load"
	"github.com/perrin-mesh/perrin/workload/specfile"
	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

// FileName is the name of the file in the data folder.
const FileName = "config.yaml"

// The places a value can come from, the later ones stronger.
const (
	FromDefault = "default"
	FromFile    = "file"
	FromEnv     = "environment"
	FromFlag    = "flag"
)

// Definition is one setting: its flag is --Name, its variable PERRIN_NAME (in
// capitals, with _ for -), its field in the file Name (with _ for -).
type Definition struct {
	Name    string
	Help    string
	Example string // for the file, when there is no default
	List    bool   // several values; in the environment separated by commas
	Bool    bool
	def     func(env func(string) string) string
	check   func(value string) error
}

// Value is what a setting is and where that came from.
type Value struct {
	Name   string
	Text   string // of a list: separated by commas
	Source string // one of the From constants
	Where  string // the flag, the variable, or file:line:column
}

// Values are all settings by name.
type Values map[string]Value

// Error says which value is wrong, where it came from and what to do.
type Error struct {
	Where   string
	Message string
	Hint    string
}

// Error returns WHERE: MESSAGE.
func (e *Error) Error() string { return e.Where + ": " + e.Message }

func fixed(text string) func(func(string) string) string {
	return func(func(string) string) string { return text }
}

func hostName(func(string) string) string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "node"
	}
	short, _, _ := strings.Cut(name, ".")
	short = strings.Map(func(r rune) rune {
		if !nameRune(r) {
			return -1
		}
		return r
	}, short)
	if short == "" {
		return "node"
	}
	return short[:min(len(short), maxName)]
}

// DefaultListen are the addresses a node listens on when nobody says otherwise.
const DefaultListen = "/ip4/0.0.0.0/udp/4511/quic-v1,/ip6/::/udp/4511/quic-v1,/ip4/0.0.0.0/tcp/4511,/ip6/::/tcp/4511"

// Definitions returns every setting of a daemon, in the order of the file.
func Definitions() []Definition {
	return []Definition{
		{Name: "data", Help: "folder of keys, ledger and blobs", def: DefaultData, check: notEmpty},
		{Name: "name", Help: "this node's name, for people and for --where", def: hostName, check: checkName},
		{Name: "listen", Help: "multiaddr to listen on; repeatable", List: true, def: fixed(DefaultListen), check: checkAddr},
		{Name: "label", Help: "NAME=VALUE that --where can ask for; repeatable", Example: "[zone=attic, gpu=yes]", List: true, def: fixed(""), check: checkLabel},
		{Name: "socket", Help: "API socket", def: DefaultSocket, check: notEmpty},
		{Name: "socket-mode", Help: "who may use the socket: 0600 its owner, 0660 its group too", def: fixed("0600"), check: checkMode},
		{Name: "cores", Help: "physical cores to offer; 0 is all", def: fixed("0"), check: whole(0, 4096)},
		{Name: "memory", Help: "memory to offer, such as 8GiB; 0 is what the machine can spare", def: fixed("0"), check: checkSize},
		{Name: "first-core", Help: "the core that --cores begins at, where several nodes share a machine", def: fixed("0"), check: whole(0, 1<<20)},
		{Name: "reserve", Help: "what this machine keeps for its own programs; the cores' idle time is lent all the same", Example: "cores=2,memory=4GiB", def: fixed(""), check: checkReserve},
		{Name: "spare-only", Help: "lend only what is idle, at the lowest priority", Bool: true, def: fixed("false"), check: checkBool},
		{Name: "quiet-hours", Help: "hours of the day, such as 9-18, in which this machine lends nothing and takes no new work", Example: "9-18", def: fixed(""), check: checkHours},
		{Name: "blob-limit", Help: "disk for programs, inputs and results, such as 10GiB", def: fixed("10GiB"), check: checkBlobLimit},
		{Name: "lease-ttl", Help: "how long a node may run without hearing of its cell; all nodes of a cell should agree", def: fixed("9s"), check: checkLease},
		{Name: "mdns", Help: "look for peers on the local network", Bool: true, def: fixed("true"), check: checkBool},
		{Name: "loopback", Help: "peers are on this machine only", Bool: true, def: fixed("false"), check: checkBool},
		{Name: "cell-size", Help: "nodes in a cell at most", def: fixed("64"), check: whole(1, 128)},
		{Name: "log-level", Help: "debug, info, warn or error", def: fixed("info"), check: checkLevel},
		{Name: "log-format", Help: "text or json", def: fixed("text"), check: oneOf("text", "json")},
		{Name: "pprof", Help: "serve profiles on the socket", Bool: true, def: fixed("false"), check: checkBool},
	}
}

// Find returns the definitions of those names, in that order.
func Find(names ...string) []Definition {
	var out []Definition
	for _, name := range names {
		i := slices.IndexFunc(Definitions(), func(d Definition) bool { return d.Name == name })
		out = append(out, Definitions()[i])
	}
	return out
}

// Register adds the flags of some definitions. A flag that is there already,
// such as one of every verb, is left alone.
func Register(flags *pflag.FlagSet, defs []Definition) {
	for _, d := range defs {
		switch {
		case flags.Lookup(d.Name) != nil || d.Name == "socket":
		case d.List:
			flags.StringArray(d.Name, nil, d.usage())
		case d.Bool:
			flags.Bool(d.Name, d.def(os.Getenv) == "true", d.Help+" ($"+d.Env()+")")
		default:
			flags.String(d.Name, "", d.usage())
		}
	}
}

func (d Definition) usage() string {
	env := " ($" + d.Env() + ")"
	if def := d.def(os.Getenv); def != "" && d.Name != "listen" {
		return d.Help + " (default " + def + ")" + env
	}
	return d.Help + env
}

// Env returns the name of the environment variable.
func (d Definition) Env() string {
	return "PERRIN_" + strings.ToUpper(strings.ReplaceAll(d.Name, "-", "_"))
}

// Field returns the name in the file.
func (d Definition) Field() string { return strings.ReplaceAll(d.Name, "-", "_") }

// Load returns every setting: a flag that was given, else the environment, else
// the file in the data folder, else the default. An error is an *Error.
func Load(flags *pflag.FlagSet, env func(string) string) (Values, error) {
	defs := Definitions()
	out := Values{}
	data, err := defs[0].value(flags, env, nil, "")
	if err != nil {
		return nil, err
	}
	out["data"] = data
	path := filepath.Join(data.Text, FileName)
	file, err := readFile(path)
	if err != nil {
		return nil, err
	}
	if file == nil {
		path = ""
	}
	for _, d := range defs[1:] {
		if out[d.Name], err = d.value(flags, env, file, path); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// value finds the strongest source of d and checks what it says.
func (d Definition) value(flags *pflag.FlagSet, env func(string) string, file *document.Node, path string) (Value, error) {
	v, err := d.raw(flags, env, file, path)
	if err != nil {
		return v, err
	}
	parts := []string{v.Text}
	if d.List {
		parts = split(v.Text)
	}
	for _, p := range parts {
		if err := d.check(p); err != nil {
			where := v.Where
			if v.Source == FromDefault {
				where = "--" + d.Name
			}
			return v, &Error{Where: where, Message: err.Error(), Hint: d.Help}
		}
	}
	return v, nil
}

func (d Definition) raw(flags *pflag.FlagSet, env func(string) string, file *document.Node, path string) (Value, error) {
	if f := flags.Lookup(d.Name); f != nil && f.Changed {
		text := f.Value.String()
		if list, ok := f.Value.(pflag.SliceValue); ok {
			text = strings.Join(list.GetSlice(), ",")
		}
		return Value{d.Name, text, FromFlag, "--" + d.Name}, nil
	}
	if text := env(d.Env()); text != "" {
		return Value{d.Name, text, FromEnv, d.Env()}, nil
	}
	if file != nil {
		if n := file.Get(d.Field()); n != nil && n.Kind != document.Null {
			return d.fromFile(n, path)
		}
	}
	return Value{d.Name, d.def(env), FromDefault, ""}, nil
}

func (d Definition) fromFile(n *document.Node, path string) (Value, error) {
	where := fmt.Sprintf("%s:%d:%d", path, n.Line, n.Column)
	v := Value{d.Name, n.Text, FromFile, where}
	switch {
	case n.Kind == document.List && d.List:
		var parts []string
		for _, item := range n.Items {
			parts = append(parts, item.Text)
		}
		v.Text = strings.Join(parts, ",")
	case n.Kind == document.Map && d.Name == "label":
		var parts []string
		for _, f := range n.Fields {
			parts = append(parts, f.Key+"="+f.Value.Text)
		}
		v.Text = strings.Join(parts, ",")
	case n.Kind == document.List || n.Kind == document.Map:
		return v, &Error{Where: where, Message: fmt.Sprintf("%s: want one value, got %s", d.Field(), n.Kind), Hint: d.Help}
	}
	return v, nil
}

// readFile returns the content of a settings file, nil when there is none.
func readFile(path string) (*document.Node, error) {
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, &Error{Where: path, Message: "this user may not read it", Hint: "run as the owner of the data folder"}
	}
	root, err := document.Parse(path, data)
	if own, ok := err.(*document.Error); ok {
		return nil, &Error{Where: fmt.Sprintf("%s:%d:%d", path, own.Line, own.Column), Message: own.Message, Hint: own.Hint}
	}
	if root.Kind != document.Map {
		return nil, &Error{Where: path, Message: "want fields such as name: attic", Hint: "`perrin config show` lists them"}
	}
	return root, knownFields(path, root)
}

func knownFields(path string, root *document.Node) error {
	var names []string
	for _, d := range Definitions()[1:] {
		names = append(names, d.Field())
	}
	for _, f := range root.Fields {
		if slices.Contains(names, f.Key) {
			continue
		}
		hint := "the fields are " + strings.Join(names, ", ")
		if near := document.Nearest(f.Key, names); near != "" {
			hint = "did you mean " + near + "?"
		}
		return &Error{Where: fmt.Sprintf("%s:%d:%d", path, f.Line, f.Column), Message: fmt.Sprintf("unknown field %.60q", f.Key), Hint: hint}
	}
	return nil
}

// Template returns the text of a settings file: every setting with its help,
// those that were given by a flag or the environment set, the others commented out.
func Template(values Values) []byte {
	var b strings.Builder
	b.WriteString("# Settings of this node. A flag --NAME or a variable PERRIN_NAME is stronger.\n# `perrin config show` prints what is in effect, and where it comes from.\n")
	for _, d := range Definitions()[1:] {
		v := values[d.Name]
		fmt.Fprintf(&b, "\n# %s\n", d.Help)
		set := v.Source == FromFlag || v.Source == FromEnv
		text := quoted(d, v.Text)
		if text == "" || text == "[]" {
			text = d.Example
		}
		if !set {
			b.WriteString("# ")
		}
		fmt.Fprintf(&b, "%s: %s\n", d.Field(), text)
	}
	return []byte(b.String())
}

func quoted(d Definition, text string) string {
	if !d.List {
		return strconv.Quote(text)
	}
	parts := split(text)
	for i, p := range parts {
		parts[i] = strconv.Quote(p)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func split(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// Text returns a setting.
func (v Values) Text(name string) string { return v[name].Text }

// List returns the values of a list.
func (v Values) List(name string) []string { return split(v[name].Text) }

// Int returns a whole number that Load has checked.
func (v Values) Int(name string) int {
	n, _ := strconv.Atoi(v[name].Text)
	return n
}

// Bool returns a truth value that Load has checked.
func (v Values) Bool(name string) bool {
	b, _ := strconv.ParseBool(v[name].Text)
	return b
}

// Size returns an amount in bytes that Load has checked.
func (v Values) Size(name string) int64 {
	n, _ := specfile.ParseSize(v[name].Text)
	return n
}

// Reserve returns the cores and bytes of a reserve that Load has checked.
func (v Values) Reserve(name string) (cores int, memory int64) {
	cores, memory, _ = parseReserve(v[name].Text)
	return cores, memory
}

// Hours returns the hours of a day that Load has checked.
func (v Values) Hours(name string) machine.Hours {
	h, _ := machine.ParseHours(v[name].Text)
	return h
}

// Mode returns the permissions of the socket.
func (v Values) Mode() uint32 {
	n, _ := strconv.ParseUint(v["socket-mode"].Text, 8, 32)
	return uint32(n)
}

// Pairs returns NAME=VALUE by name.
func (v Values) Pairs(name string) map[string]string {
	out := map[string]string{}
	for _, p := range v.List(name) {
		key, value, _ := strings.Cut(p, "=")
		out[key] = value
	}
	return out
}

// Duration returns a time that Load has checked.
func (v Values) Duration(name string) time.Duration {
	d, _ := specfile.ParseDuration(v[name].Text)
	return d
}

// Level returns the log level.
func (v Values) Level() slog.Level {
	var l slog.Level
	_ = l.UnmarshalText([]byte(v["log-level"].Text))
	return l
}

// Sorted returns the values in the order of Definitions.
func (v Values) Sorted() []Value {
	out := make([]Value, 0, len(v))
	for _, d := range Definitions() {
		if value, ok := v[d.Name]; ok {
			out = append(out, value)
		}
	}
	return out
}

// Names returns the names of all settings, sorted.
func (v Values) Names() []string { return slices.Sorted(maps.Keys(v)) }
