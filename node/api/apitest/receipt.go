package apitest

import (
	"context"
	"fmt"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

// Receipt implements api.Backend. What it returns is not signed by anybody.
func (f *Fake) Receipt(_ context.Context, id workload.ID) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	j, err := f.get(id)
	if err != nil {
		return nil, err
	}
	if !j.phase.Ended() {
		return nil, api.Errorf(api.Refused, "workload %s is %s: a receipt is about one that has ended", id.Short(), j.phase)
	}
	return fmt.Appendf(nil, "{\n \"payloadType\": %q\n}\n", id), nil
}

// Audit implements api.Backend: nobody votes.
func (f *Fake) Audit(_ context.Context, cell workload.CellID) (*api.Audit, error) {
	proof := fmt.Appendf(nil, `{"type":"https://github.com/perrin-mesh/perrin/audit/v1","cell":%q,"voters":[],"marks":[],"certificates":[]}`, cell)
	return &api.Audit{Cell: cell, Root: Peer("root"), Walked: true, From: 1, To: 9, Entries: 8, Awards: 2, Faults: []string{}, Silent: []workload.PeerID{}, Proof: proof}, nil
}
