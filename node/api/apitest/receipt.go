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
