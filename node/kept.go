package node

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/consensus/store"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/workload"
)

// kept is what this node alone holds for a workload: inputs that were too large
// to be copied to the voters, on the node it was submitted from, and such
// outputs on the node that made them. It is remembered durably, so that a
// restart does not leave them to eviction.
type kept struct {
	kv *store.KV
	n  *Node
	mu *sync.Mutex // held from reading an entry to writing it
}

// maxKept bounds the blobs of one entry, which is one value of the store.
const maxKept = 20_000

// Why something is kept. Inputs may go when the workload has ended, results
// when the cell has forgotten it.
const (
	keptInputs  = "inputs"
	keptResults = "results"
)

// keptRefs is one entry.
type keptRefs struct {
	Blobs []workload.Ref `cbor:"1,keyasint" max:"65536"`
}

func keptOwner(why string, id workload.ID) string { return why + "/" + id.String() }

// add keeps blobs for a workload from now on.
func (k kept) add(why string, id workload.ID, refs []workload.Ref) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := keptOwner(why, id)
	k.n.blobs.Pin(key, refs...)
	var entry keptRefs
	raw, found, err := k.kv.Get(key)
	if err == nil && found {
		err = wire.Unmarshal(raw, &entry)
	}
	if err != nil {
		return fmt.Errorf("keep %s: %w", key, err)
	}
	known := make(map[workload.Ref]bool, len(entry.Blobs))
	for _, ref := range entry.Blobs {
		known[ref] = true
	}
	for _, ref := range refs {
		if !known[ref] {
			known[ref] = true
			entry.Blobs = append(entry.Blobs, ref)
		}
	}
	if len(entry.Blobs) > maxKept {
		return fmt.Errorf("keep %s: more than %d blobs", key, maxKept)
	}
	return k.kv.Put(key, wire.MustMarshal(entry))
}

// restore pins again what was kept before a restart.
func (k kept) restore() error {
	return k.kv.Each("", func(key string, raw []byte) error {
		var entry keptRefs
		if err := wire.Unmarshal(raw, &entry); err != nil {
			return fmt.Errorf("kept %q: %w", key, err)
		}
		k.n.blobs.Pin(key, entry.Blobs...)
		return nil
	})
}

// release lets go of what no workload needs any more.
func (k kept) release(ctx context.Context) error {
	var keys []string
	err := k.kv.Each("", func(key string, _ []byte) error { keys = append(keys, key); return nil })
	for _, key := range keys {
		why, text, _ := strings.Cut(key, "/")
		id, perr := workload.ParseID(text)
		if perr == nil && !k.done(ctx, why, id) {
			continue
		}
		k.mu.Lock()
		k.n.blobs.Unpin(key)
		err = errors.Join(err, k.kv.Delete(key))
		k.mu.Unlock()
	}
	return err
}

func (k kept) done(ctx context.Context, why string, id workload.ID) bool {
	var w api.Workload
	err := k.n.query(ctx, id.Cell, &wire.QueryMsg{Op: leader.QueryInspect, ID: id}, &w)
	if err != nil {
		return api.KindOf(err) == api.NotFound
	}
	return why == keptInputs && w.Phase.Ended()
}

// Keep implements worker.Keeper: outputs that the voters do not hold.
func (n *Node) Keep(id workload.ID, refs []workload.Ref) error {
	return n.kept.add(keptResults, id, refs)
}

// uploadFor is how long what was uploaded waits to be submitted, at least.
const uploadFor = time.Hour

// uploadOwner names the pins of what is uploaded now, up after the node was
// started. It changes every uploadFor, and the owner before the last one is let go.
func uploadOwner(up time.Duration, back int) string {
	return "upload/" + strconv.FormatInt(int64(up/uploadFor)-int64(back), 10)
}
