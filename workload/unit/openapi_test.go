package unit_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/workload/unit"
	"github.com/perrin-mesh/perrin/workload/unit/unittest"
	"github.com/perrin-mesh/perrin/workload/unit/unitwire"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// description is openapi.json as far as the tests look at it.
type description struct {
	Paths map[string]struct {
		Reserved bool `json:"x-reserved"`
		Get      any  `json:"get"`
		Post     any  `json:"post"`
	} `json:"paths"`
	Components struct {
		Schemas map[string]struct {
			Properties map[string]any `json:"properties"`
			Required   []string       `json:"required"`
		} `json:"schemas"`
	} `json:"components"`
}

func readDescription(t *testing.T) (raw []byte, d description) {
	t.Helper()
	raw, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	return raw, d
}

// TestDescriptionHasTheFieldsOfTheTypes: the same names, and those that are
// always written are required.
func TestDescriptionHasTheFieldsOfTheTypes(t *testing.T) {
	_, d := readDescription(t)
	types := map[string]any{
		"Whoami": unitwire.Whoami{}, "Inputs": unitwire.Inputs{}, "Input": unitwire.Input{}, "Published": unitwire.Published{},
		"Notice": unitwire.Notice{}, "Cost": unitwire.Cost{}, "Error": unitwire.Error{},
	}
	for name, v := range types {
		var fields, required []string
		for f := range reflect.TypeOf(v).Fields() {
			field, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			fields = append(fields, field)
			if options != "omitempty" {
				required = append(required, field)
			}
		}
		schema := d.Components.Schemas[name]
		slices.Sort(fields)
		if got := slices.Sorted(maps.Keys(schema.Properties)); !slices.Equal(got, fields) {
			t.Errorf("%s: described %q, written %q", name, got, fields)
		}
		slices.Sort(required)
		if got := slices.Sorted(slices.Values(schema.Required)); !slices.Equal(got, required) {
			t.Errorf("%s: required %q, always written %q", name, got, required)
		}
	}
}

// TestDescriptionHoldsForEveryAnswer asks for everything and validates it.
func TestDescriptionHoldsForEveryAnswer(t *testing.T) {
	raw, d := readDescription(t)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("openapi.json", doc); err != nil {
		t.Fatal(err)
	}
	validate := func(schema, answer string) {
		t.Helper()
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(answer))
		if err != nil {
			t.Fatalf("%s: %v in %q", schema, err, answer)
		}
		if err := c.MustCompile("openapi.json#/components/schemas/" + schema).Validate(v); err != nil {
			t.Errorf("%s: %s: %v", schema, answer, err)
		}
	}
	a := unittest.New(t)
	socket := a.Serve(t)
	requests := []struct{ method, path, schema string }{
		{"GET", "/v1/whoami", "Whoami"}, {"GET", "/v1/inputs", "Inputs"}, {"POST", "/v1/publish?path=x", "Published"},
		{"GET", "/v1/notice", "Notice"}, {"GET", "/v1/cost", "Cost"},
	}
	for _, r := range requests {
		status, body := ask(t, socket, r.method, r.path, "")
		if status != 200 {
			t.Errorf("%s: %d %s", r.path, status, body)
		}
		validate(r.schema, body)
	}
	a.Post(unitwire.Drain, "maintenance", 1)
	_, body := ask(t, socket, "GET", "/v1/notice", "")
	validate("Notice", body)
	for path, p := range d.Paths {
		if p.Reserved {
			status, body := ask(t, socket, "GET", path, "")
			validate("Error", body)
			if status != 501 {
				t.Errorf("%s is reserved and answers %d", path, status)
			}
			continue
		}
		method := "GET"
		if p.Post != nil {
			method = "POST"
		}
		if status, body := ask(t, socket, method, path, ""); status == 404 || status == 405 || status == 501 {
			t.Errorf("%s %s is described and answers %d %s", method, path, status, body)
		}
	}
	if served := unit.Paths(); len(served) != len(d.Paths) {
		t.Errorf("described %d paths, known to the server %q", len(d.Paths), served)
	}
}
