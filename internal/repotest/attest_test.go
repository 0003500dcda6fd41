package repotest

import (
	"regexp"
	"strings"
	"testing"
)

// chooses is how code names a machine whose evidence a daemon shows.
var chooses = regexp.MustCompile(`collect\.(Files\{|Of\(|New\()[^\n]*`)

// mayChoose are the only places in production code that do, and how: the
// hardware of this machine, and none for simulated ones.
var mayChoose = map[string][]string{
	"node/attest.go": {"collect.Of()", "collect.New(collect.Host())"},
}

// TestNoSoftwareTPMInProduction holds that a daemon shows evidence of its own
// hardware alone: what stands in for it in tests is made in tests, or in
// mesh/attest/attesttest, which TestArrows keeps out of production code.
func TestNoSoftwareTPMInProduction(t *testing.T) {
	found := 0
	files(t, ".go", func(name string, content []byte) {
		if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "mesh/attest/attesttest/") || strings.HasPrefix(name, "internal/") {
			return
		}
		for _, call := range chooses.FindAllString(string(content), -1) {
			allowed := false
			for _, want := range mayChoose[name] {
				allowed = allowed || strings.HasPrefix(call, want)
			}
			if found++; !allowed {
				t.Errorf("%s: %s: only the machine's own hardware attests", name, call)
			}
		}
		if strings.Contains(string(content), "Attests = ") || strings.Contains(string(content), "Attests: collect") {
			t.Errorf("%s chooses what the machine attests with", name)
		}
	})
	if found != len(mayChoose["node/attest.go"]) {
		t.Errorf("%d places choose a machine, want %d", found, len(mayChoose["node/attest.go"]))
	}
}
