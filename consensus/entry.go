package consensus

import (
	"fmt"

	"github.com/hashicorp/raft"
)

// Command returns the command of a log entry; nil when the entry is one of Raft's
// own. The error says that the entry is not kept, or not yet there.
func (g *Group) Command(index uint64) ([]byte, error) {
	var l raft.Log
	if err := g.logs.GetLog(index, &l); err != nil {
		return nil, fmt.Errorf("entry %d: %w", index, err)
	}
	if l.Type != raft.LogCommand {
		return nil, nil
	}
	return l.Data, nil
}
