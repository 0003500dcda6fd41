package store

import (
	"errors"
	"testing"
)

// TestNoCompactionWithoutRoom: a table that the disk has no room for would end
// the process.
func TestNoCompactionWithoutRoom(t *testing.T) {
	s := open(t, t.TempDir())
	var asked int64
	full := newTidier(s.raft, func(need int64) error { asked = need; return ErrNoSpace }, s.log)
	defer full.close()
	if err := full.compact(); !errors.Is(err, ErrNoSpace) || asked < memTable || asked > maxCompaction {
		t.Errorf("compact asks for %d bytes and says %v, want ErrNoSpace", asked, err)
	}
	if err := s.tidy[0].compact(); err != nil {
		t.Errorf("with room: %v", err)
	}
}
