package repotest

import (
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

// parses is how code that reads the bytes of others looks.
var parses = regexp.MustCompile(`wire\.Unmarshal|json\.Unmarshal|json\.NewDecoder|tar\.NewReader|pem\.Decode|ReadUvarint|binary\.(Big|Little)Endian\.Uint|url\.ParseQuery|(?m:^func Parse[A-Z])`)

// fuzzedElsewhere are folders that parse and have no fuzz target of their own.
var fuzzedElsewhere = map[string]string{
	"workload/wasm/frame":        "workload/wasm has FuzzFrame",
	"workload/specfile/document": "workload/specfile has FuzzParse",
	"workload/unit/unitclient":   "it reads answers through unitwire, which has FuzzExchange, into plain structs",
	"node/api/apitest":           "a fake for tests",
	"node/tenancy":               "it opens tokens through workload/rights, which has FuzzToken",
	"workload/oci/ocitest":       "it reads what it wrote",
	"node/fuzzpeers":             "what the fuzz targets of leader and worker read",
	"mesh/attest/attesttest/...": "a test's machine, and what a test recorded of it",
	"examples/...":               "what a user could write",
	"simulations/...":            "an experiment reads what it wrote",
	"internal/...":               "a check reads what this repository holds",
}

// TestEveryParserIsFuzzed refuses a package that reads the bytes of others and
// has no fuzz target.
func TestEveryParserIsFuzzed(t *testing.T) {
	reader, target := map[string]string{}, map[string]bool{}
	files(t, ".go", func(name string, content []byte) {
		folder := path.Dir(name)
		switch found := parses.Find(content); {
		case strings.HasSuffix(name, "_test.go"):
			target[folder] = target[folder] || regexp.MustCompile(`(?m)^func Fuzz[A-Z]`).Match(content)
		case found != nil:
			reader[folder] = path.Base(name) + ": " + string(found)
		}
	})
	for folder, what := range reader {
		excused := false
		for pattern := range fuzzedElsewhere {
			excused = excused || under(folder, pattern)
		}
		if !target[folder] && !excused {
			t.Errorf("%s has no fuzz target and parses: %s", folder, what)
		}
	}
	if len(reader) < 20 {
		t.Errorf("only %d folders parse anything", len(reader))
	}
}

// leastSeeds are the committed inputs that every fuzz target has at least, beside those in
// its code: what a fuzzer found to reach other lines.
const leastSeeds = 2

// TestEveryFuzzTargetHasSeeds refuses a fuzz target without a committed corpus.
func TestEveryFuzzTargetHasSeeds(t *testing.T) {
	targets := 0
	files(t, "_test.go", func(name string, content []byte) {
		for _, found := range regexp.MustCompile(`(?m)^func (Fuzz[A-Z]\w*)\(`).FindAllSubmatch(content, -1) {
			targets++
			corpus := path.Join(path.Dir(name), "testdata/fuzz", string(found[1]))
			seeds, err := os.ReadDir(path.Join(root, corpus))
			if len(seeds) < leastSeeds {
				t.Errorf("%s holds %d seeds, want %d: %v", corpus, len(seeds), leastSeeds, err)
			}
		}
	})
	if targets < 50 {
		t.Errorf("only %d fuzz targets", targets)
	}
}
