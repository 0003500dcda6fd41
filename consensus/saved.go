package consensus

import (
	"fmt"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// Saved returns the latest configuration that a group left in its storage, which may
// not be committed. No server may have the storage open.
func Saved(s Storage) (Configuration, error) {
	var latest Configuration
	snaps, err := s.Snapshots(hclog.NewNullLogger())
	if err != nil {
		return latest, err
	}
	metas, err := snaps.List()
	if err != nil {
		return latest, fmt.Errorf("list snapshots: %w", err)
	}
	if len(metas) > 0 {
		latest, err = decodeConfiguration(metas[0].ConfigurationIndex, raft.EncodeConfiguration(metas[0].Configuration))
		if err != nil {
			return latest, err
		}
	}
	first, err := s.FirstIndex()
	if err != nil {
		return latest, err
	}
	last, err := s.LastIndex()
	if err != nil {
		return latest, err
	}
	for at := last; at >= max(first, latest.Index+1); at-- {
		var e raft.Log
		if err := s.GetLog(at, &e); err != nil {
			return latest, fmt.Errorf("entry %d: %w", at, err)
		}
		if c, err := checkEntry(&e); err != nil || c.Index != 0 {
			return c, err
		}
	}
	return latest, nil
}
