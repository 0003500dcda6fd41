package store

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// freeBytes asks the file system what an unprivileged write may still take.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("statfs: %w", err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// room returns ErrNoSpace when less than need bytes are free.
func (s *Store) room(need int64) error {
	free, err := s.opts.Free(s.dir)
	if err != nil {
		return err
	}
	if free < need {
		return fmt.Errorf("%w: %d MiB free, %d MiB needed", ErrNoSpace, free>>20, (need+1<<20-1)>>20)
	}
	return nil
}

// roomMargin is what Room leaves to those who append without asking.
const roomMargin = 16 << 20

// Room returns ErrNoSpace, with how much is free and needed, when an append
// would be refused now or soon. Who asks before it appends is refused while
// there is still room for what Raft writes by itself, so that a leader leads on.
func (s *Store) Room() error { return s.room(s.opts.Reserve + roomMargin) }

// share returns the part of the reserve that a write must leave untouched.
func (s *Store) share(d demand) int64 {
	switch d {
	case demandAppend:
		return s.opts.Reserve
	case demandSmall:
		return s.opts.Reserve / 4
	}
	return s.opts.Reserve / 16 // a deletion is written, too, before it makes room
}
