package node

import (
	"slices"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/node/api"
)

// TestNameBeforeBeginning names nodes as users do.
func TestNameBeforeBeginning(t *testing.T) {
	t.Parallel()
	nodes := make([]called, 3)
	for i := range nodes {
		key, err := admission.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		nodes[i].id = idOf(key)
	}
	short, long := nodes[1].id.Short()[:1], nodes[1].id.Short()
	nodes[0].name, nodes[1].name, nodes[2].name = short, "b", long
	for _, c := range []struct {
		text string
		want []called
	}{
		{"", nil},
		{"nobody", nil},
		{short, nodes[:1]},
		{nodes[0].id.Short(), nodes[:1]},
		{nodes[0].id.String(), nodes[:1]},
		{long, nodes[1:]}, // one takes the other's identity as its name
	} {
		found := pick(nodes, c.text)
		slices.SortFunc(found, func(x, y called) int { return slices.Index(nodes, x) - slices.Index(nodes, y) })
		if !slices.Equal(found, c.want) {
			t.Errorf("%q names %v, want %v", c.text, found, c.want)
		}
	}
	err := severalNamed(api.Ambiguous, long, pick(nodes, long))
	for _, n := range nodes[1:] {
		if !strings.Contains(err.Hint, n.id.Short()) {
			t.Errorf("hint %q leaves %s out", err.Hint, n.id.Short())
		}
	}
}
