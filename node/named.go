package node

import (
	"fmt"
	"slices"
	"strings"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// mostNamed bounds how many nodes a hint lists.
const mostNamed = 8

// called is a node that a user may name.
type called struct {
	id   workload.PeerID
	name string
}

// chancePrefix is how long the beginning of an identity may be that a node's name is by
// chance: of 58 letters, six are the same once in 38 billion.
const chancePrefix = 5

// pick finds those that text names, by name or by the beginning of an identity, in the
// order of their identities. A whole name comes before beginnings that are as short as
// chance makes them. A longer one that is also a name was chosen to be mistaken for
// somebody, so both are found.
func pick(all []called, text string) (found []called) {
	named := 0
	for _, c := range all {
		switch {
		case text == "":
		case c.name == text:
			found = slices.Insert(found, named, c)
			named++
		case strings.HasPrefix(c.id.Short(), text) || strings.HasPrefix(c.id.String(), text):
			found = append(found, c)
		}
	}
	if named > 0 && len(text) <= chancePrefix {
		found = found[:named]
	}
	slices.SortFunc(found, func(x, y called) int { return strings.Compare(x.id.Short(), y.id.Short()) })
	return found
}

// severalNamed is the error of a text that names more than one node.
func severalNamed(kind, text string, found []called) *api.Error {
	var all []string
	for _, c := range found[:min(len(found), mostNamed)] {
		one := c.id.Short()
		if c.name != "" && c.name != text {
			one += fmt.Sprintf(" (%.64q)", c.name)
		}
		all = append(all, one)
	}
	if more := len(found) - len(all); more > 0 {
		all = append(all, fmt.Sprintf("one of %d more", more))
	}
	return &api.Error{Kind: kind, Message: fmt.Sprintf("%d nodes are called %.80q", len(found), text),
		Hint: "name it by its identity: " + strings.Join(all, " or ")}
}
