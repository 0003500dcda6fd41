package specfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

func compiled(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// value turns a node into what a JSON Schema validator takes.
func value(n *document.Node) any {
	switch n.Kind {
	case document.String:
		return n.Text
	case document.Number:
		return json.Number(strings.ReplaceAll(n.Text, "_", ""))
	case document.Bool:
		return n.Text == "true"
	case document.List:
		out := make([]any, len(n.Items))
		for i, item := range n.Items {
			out[i] = value(item)
		}
		return out
	case document.Map:
		out := map[string]any{}
		for _, f := range n.Fields {
			out[f.Key] = value(f.Value)
		}
		return out
	}
	return nil
}

// TestFiles reads the files of testdata as stories: each `parse` shows what
// comes of a file, and asks the schema too. The two agree, but where a case says
// `meaning`: there only the parser can know.
func TestFiles(t *testing.T) {
	schema := compiled(t)
	datadriven.Walk(t, "testdata/cases", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			name := "job.yaml"
			if d.Cmd == "json" {
				name = "job.json"
			}
			input := strings.ReplaceAll(d.Input, "<tab>", "\t")
			f, err := Parse(name, []byte(input))
			if root, docErr := document.Parse(name, []byte(input)); docErr == nil {
				refused := schema.Validate(value(root)) != nil
				if d.HasArg("meaning") && (refused || err == nil) {
					t.Errorf("%s: marked as a question of meaning, but schema refuses %t, parser says %v", d.Pos, refused, err)
				}
				if !d.HasArg("meaning") && refused != (err != nil) {
					t.Errorf("%s: the schema refuses it: %t; the parser says %v", d.Pos, refused, err)
				}
			}
			return outcome(f, err)
		})
	})
}

func outcome(f *File, err error) string {
	var all document.Errors
	switch {
	case errors.As(err, &all):
		return fmt.Sprintf("%v\nhint: %s\n", all, all.Hint())
	case err != nil:
		return fmt.Sprintf("not of type document.Errors: %v\n", err)
	}
	var out strings.Builder
	for _, s := range f.Steps {
		p := s.Spec
		fmt.Fprintf(&out, "%s: %s %q %s=%d memory=%d timeout=%dms tasks=%d", s.Name, s.Program.Value, p.Args, p.Resources.Class,
			p.Resources.CPUs, p.Resources.Memory, p.Timeout, p.Tasks.Count)
		if r := p.Resources; r.Share || r.Quota != 0 {
			fmt.Fprintf(&out, " share=%t quota=%d", r.Share, r.Quota)
		}
		for _, in := range s.Inputs {
			fmt.Fprintf(&out, " input=%s:%s", in.Path, in.As)
		}
		for i, task := range s.Tasks {
			fmt.Fprintf(&out, " task%d=%s%q%d", i, task.Name, task.Args, len(task.Inputs))
		}
		if s.Map.Value != "" {
			fmt.Fprintf(&out, " map=%s", s.Map.Value)
		}
		for _, a := range s.After {
			fmt.Fprintf(&out, " after=%s", a.Value)
		}
		if len(p.Env) > 0 {
			fmt.Fprintf(&out, " env=%v", p.Env)
		}
		out.WriteByte('\n')
	}
	return out.String()
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "4096": 4096, "256MiB": 256 << 20, "256 mib": 256 << 20, "1.5GiB": 3 << 29, "2GB": 2e9, "1k": 1024, "8G": 8 << 30, "7B": 7, "1Ti": 1 << 40,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "-1", "1e3", "12XB", "1..2", "99999999PiB", "MiB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, got)
		}
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]string{"90s": "1m30s", "2d": "48h0m0s", "1h30m": "1h30m0s", " 5ms ": "5ms"} {
		if got, err := ParseDuration(text); err != nil || got.String() != want {
			t.Errorf("ParseDuration(%q) = %s, %v; want %s", text, got, err, want)
		}
	}
	_, err := ParseDuration("90")
	if err == nil || !strings.Contains(err.Error(), "90s for seconds") {
		t.Errorf("a number without a unit: %v", err)
	}
	if _, err := ParseDuration("soon"); err == nil {
		t.Error("a word is no time")
	}
}

// FuzzParse holds that no text makes the parser panic, that an error says
// where, and that what is accepted, the schema accepts as well.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "program: x", "{\"program\": \"x\", \"args\": [1]}", "workloads:\n- program: a\n  name: a\n  after: b\n- {program: b, name: b}",
		"program: &a x\nargs: [*a]", "[[[[", "program: |\n  text\n", "a: b: c", "- - - -", "? x\n: y", "\ufeffprogram: x", "program: x\nresources: {memory: 1GiB, cores: 2}",
		"{\"program\": \"\\ud83d\\ude00\"}", "---\nprogram: x\n---\nprogram: y", "program: x\ntasks: [{args: [a]}, {}]\n", "program: 'x\n", "<<: *a", "program: !!str x", "program: x\nmap: 'in/*'\ntimeout: 1d",
	} {
		f.Add([]byte(seed))
	}
	schema := compiled(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, name := range []string{"f.yaml", "f.json"} {
			parsed, err := Parse(name, data)
			var all document.Errors
			switch {
			case err == nil:
				for _, s := range parsed.Steps {
					if s.Name == "" && s.Program.Value != "" {
						t.Errorf("a step without a name: %+v", s)
					}
				}
				root, err := document.Parse(name, data)
				if err != nil {
					t.Fatal(err)
				}
				if err := schema.Validate(value(root)); err != nil {
					t.Errorf("accepted here, refused by the schema: %v", err)
				}
			case !errors.As(err, &all) || len(all) == 0 || all[0].Message == "":
				t.Errorf("an error without a place: %v", err)
			}
		}
	})
}
