package consensus

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
)

// termKey is the library's key for the current term.
const termKey = "CurrentTerm"

// termRetry is how long to wait before a term is stored again.
const termRetry = 250 * time.Millisecond

// stable is the stable store of one instance. The library panics when it cannot
// store a term. Here the voter waits instead, and so neither votes nor follows,
// until the disk takes the term or the instance is cut off from its peers. Once
// it is cut off nobody can learn of the term, so it may be lost.
type stable struct {
	raft.StableStore
	cut <-chan struct{}
	log *slog.Logger
}

// SetUint64 stores a number; see stable for the term.
func (s *stable) SetUint64(key []byte, val uint64) error {
	if string(key) != termKey {
		return s.StableStore.SetUint64(key, val)
	}
	if old, err := s.GetUint64(key); err == nil && old == val && val != 0 {
		return nil
	}
	for warned := false; ; warned = true {
		err := s.StableStore.SetUint64(key, val)
		if err == nil {
			return nil
		}
		if !warned {
			s.log.Error("cannot store the term; this server stands still until it can", "term", val, "error", err)
		}
		select {
		case <-s.cut:
			return nil
		case <-time.After(termRetry):
		}
	}
}

// checkTerm returns ErrMalformed when the log has an entry of a term that the
// stable store has not seen. Raft stores the term first, so the stable store has
// lost writes, and its vote with them.
func checkTerm(s Storage) error {
	last, err := s.LastIndex()
	if err != nil || last == 0 {
		return err
	}
	var entry raft.Log
	if err := s.GetLog(last, &entry); err != nil {
		return fmt.Errorf("read entry %d: %w", last, err)
	}
	term, err := s.GetUint64([]byte(termKey))
	if err != nil && err.Error() != "not found" {
		return fmt.Errorf("read the term: %w", err)
	}
	if term < entry.Term {
		return fmt.Errorf("%w: the log has an entry of term %d, the stored term is %d", ErrMalformed, entry.Term, term)
	}
	return nil
}
