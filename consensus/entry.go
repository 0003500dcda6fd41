package consensus

import (
	"fmt"

	"github.com/hashicorp/raft"
)

// Command returns the term and the command of a log entry; no command when the entry is
// one of Raft's own. The error says that the entry is not kept, or not yet there.
func (g *Group) Command(index uint64) (term uint64, data []byte, err error) {
	var l raft.Log
	if err := g.logs.GetLog(index, &l); err != nil {
		return 0, nil, fmt.Errorf("entry %d: %w", index, err)
	}
	if l.Type != raft.LogCommand {
		return l.Term, nil, nil
	}
	return l.Term, l.Data, nil
}
