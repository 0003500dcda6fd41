package repotest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// chooses is how code names a machine whose evidence a daemon shows.
var chooses = regexp.MustCompile(`collect\.(Files\{|Of\(|New\()[^\n]*`)

// mayChoose are the only places in production code that do, and how: the
// hardware of this machine, and none for simulated ones.
var mayChoose = map[string][]string{
	"node/attest.go": {"collect.Of()", "collect.New(collect.Host().With("},
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

// roots are the files of certificates that are built in, with the SHA-256
// fingerprints of what is in them: Intel's root; of who signs for AMD's chips or
// clouds, and of AMD's root.
var roots = map[string][]string{
	"mesh/attest/dcap/roots/intel.pem":     {"44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"},
	"mesh/attest/snp/roots/genoa-vcek.pem": {"5464738c1546aed5f2cecf1dc98c5c960a92e8913238a61711bc90ec6e828521", "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1"},
	"mesh/attest/snp/roots/genoa-vlek.pem": {"197e610743a917d6b9bb982a5a9226ccc0a15b611be0619e626aca9151457372", "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1"},
	"mesh/attest/snp/roots/milan-vcek.pem": {"67d303bd3905fd38db8b20e0793699870e7fa612eaad5dec358293fd8c0bac1b", "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd"},
	"mesh/attest/snp/roots/milan-vlek.pem": {"c5e081f59b7efab1fe2f8b505e159704e72f29cab7ef7cf628a05a42439082f5", "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd"},
	"mesh/attest/snp/roots/turin-vcek.pem": {"5b77ef5fe7a7a004fd9032668fba9d0fda22f88c4442069a479636a6ae3b3185", "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a"},
	"mesh/attest/snp/roots/turin-vlek.pem": {"104e10a8bd060a3c20a434261a57d0588fd65a88915b4f65b08bdecaf8df1a3c", "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a"},
}

// TestBuiltInRoots holds that the makers whose evidence counts are AMD and Intel,
// and that nobody adds one beside them.
func TestBuiltInRoots(t *testing.T) {
	found, err := filepath.Glob(filepath.Join(root, "mesh/attest/*/roots/*"))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, path := range found {
		name, _ := filepath.Rel(root, path)
		if filepath.Ext(path) == ".md" {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var has []string
		for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
			sum := sha256.Sum256(block.Bytes)
			has = append(has, hex.EncodeToString(sum[:]))
		}
		if seen++; !slices.Equal(has, roots[filepath.ToSlash(name)]) {
			t.Errorf("%s: holds %q", name, has)
		}
	}
	if seen != len(roots) {
		t.Errorf("%d files of roots, want %d", seen, len(roots))
	}
}

// chosen is how a build could differ from another, or embed another root.
var chosen = regexp.MustCompile(`(?m)^//go:build|^// \+build|^//go:embed (.*)|go:linkname|os\.Getenv|flag\.`)

// TestVerifiersAreTheSameInEveryBuild holds that no build tag, variable of the
// environment or flag changes what a verifier takes, and that it embeds nothing
// but the roots above.
func TestVerifiersAreTheSameInEveryBuild(t *testing.T) {
	embeds := 0
	files(t, ".go", func(name string, content []byte) {
		if !strings.HasPrefix(name, "mesh/attest/") || strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "mesh/attest/attesttest/") {
			return
		}
		for _, hit := range chosen.FindAllString(string(content), -1) {
			if embeds++; hit != "//go:embed roots/*.pem" {
				t.Errorf("%s: %s", name, hit)
			}
		}
	})
	if embeds == 0 {
		t.Error("no roots are embedded")
	}
}

// judges is how code would have evidence judged by something else than the verifiers
// with their built-in roots.
var judges = regexp.MustCompile(`\bVerifyBelow\b|\b[aA]ppraise\s*[:=].*|\.[aA]ppraise\s*=.*`)

// mayJudge are the only places in production code that speak of it: where it is made for
// tests, and where nothing stands for the verifiers.
var mayJudge = map[string][]string{
	"mesh/attest/snp/below.go":  {"VerifyBelow", "VerifyBelow"},
	"mesh/attest/dcap/below.go": {"VerifyBelow", "VerifyBelow"},
	"node/attest.go":            {"Appraise: n.cfg.appraise, Rand: rand.Reader, Now: time.Now, Log: n.log.With(\"part\", \"attest\"),"},
	"node/attestor/attestor.go": {"Appraise == nil {", "Appraise = appraise.Appraise"},
}

// TestNoOtherMakerInProduction holds that nothing but tests can have a machine of another
// maker than AMD and Intel count: VerifyBelow is called by tests alone, and the field of
// node.Config that leads to it is not exported and set nowhere else.
func TestNoOtherMakerInProduction(t *testing.T) {
	found := map[string][]string{}
	files(t, ".go", func(name string, content []byte) {
		if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "mesh/attest/attesttest/") || strings.HasPrefix(name, "internal/") {
			return
		}
		for _, hit := range judges.FindAllString(string(content), -1) {
			found[name] = append(found[name], strings.TrimPrefix(hit, "."))
		}
	})
	for name, hits := range found {
		if !slices.Equal(hits, mayJudge[name]) {
			t.Errorf("%s: %q, want %q", name, hits, mayJudge[name])
		}
	}
	for name := range mayJudge {
		if found[name] == nil {
			t.Errorf("%s does not do what the list says", name)
		}
	}
}
