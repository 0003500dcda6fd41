package scenario

import (
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/workload/specfile/document"
)

func tree(t *testing.T, text string) *document.Node {
	t.Helper()
	root, err := ReadTree("a.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestAxesAreListsWhereNoneIsWanted(t *testing.T) {
	text := strings.NewReplacer(
		"peers: 1_000", "peers: [1_000, 2_000]", "rtt: [[1ms, 80ms]", "rtt: [[1ms, [80ms, 90ms]]",
		"clients: 5", "clients: [5, 6]", "policy: {name: random-k, k: 4}", "policy: [perrin, {name: random-k, k: [2, 3]}]",
		"cores: 32", "cores: [32, 64]", "service: 1s", "service: [1s, {exponential: 2s}]", "share: 30%", "share: [10%, 30%]",
	).Replace(good)
	var got []string
	for _, a := range Axes(tree(t, text)) {
		got = append(got, a.Path+"="+Flow(a.Node))
	}
	want := []string{
		"peers=[1_000, 2_000]", "policy=[perrin, {name: random-k, k: [2, 3]}]", "network.rtt[1][2]=[80ms, 90ms]", "machines.big.cores=[32, 64]",
		"workloads[2].clients=[5, 6]", "workloads[2].service=[1s, {exponential: 2s}]", "churn.departures.share=[10%, 30%]",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if a := Axes(tree(t, good)); len(a) != 0 {
		t.Errorf("a scenario has the axes %v", a)
	}
}

func TestFormatReadsBackTheSame(t *testing.T) {
	root := tree(t, good+"about: \"yes: it is #1, 'quoted' [and] so on\"\n")
	text := Format(root)
	again := tree(t, string(text))
	if Flow(root) != Flow(again) {
		t.Errorf("%s reads back as %s", Flow(root), Flow(again))
	}
	a, errA := ParseTree("a.yaml", root)
	b, errB := Parse("a.yaml", text)
	if errA != nil || errB != nil || a.Hash() != b.Hash() || a.About != b.About || a.Name != b.Name {
		t.Errorf("other scenarios: %v, %v\n%s", errA, errB, text)
	}
	for _, word := range []string{"yes", "1e5", "0x1f", "", "a: b", "- a", "null", "1_000", " a", "é", "10", "~", "@a", "1.5s", "a#b"} {
		if got := tree(t, "name: "+plainOr(word)).Get("name"); got.Kind != document.String || got.Text != word {
			t.Errorf("%q as %s reads back as %s %q", word, plainOr(word), got.Kind, got.Text)
		}
	}
}

func TestWithChangesOneNode(t *testing.T) {
	root := tree(t, good)
	a := root.Get("network").Get("jitter")
	changed := With(root, a, &document.Node{Kind: document.String, Text: "9%"})
	if root.Get("network").Get("jitter").Text != "5%" || changed.Get("network").Get("jitter").Text != "9%" {
		t.Error("the original has changed, or the copy not")
	}
	if strings.Replace(Flow(root), "jitter: 5%", "jitter: 9%", 1) != Flow(changed) {
		t.Error("more has changed")
	}
}
