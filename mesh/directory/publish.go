package directory

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/perrin-mesh/perrin/workload"
)

// PutNode publishes what this node is, now in the background and again until
// Close or the next PutNode, and provides its class and label keys. Addresses,
// sequence number and expiry are the directory's to fill in.
func (d *Directory) PutNode(m workload.Machine, cell workload.CellID) error {
	r := NodeRecord{Peer: d.h.ID(), Machine: m, Cell: cell}
	if _, err := d.sealNode(r); err != nil {
		return err
	}
	d.mu.Lock()
	d.node = &r
	d.keys = Keys(d.h.ID(), m, d.cfg.Shards)
	d.mu.Unlock()
	d.kick()
	return nil
}

// PutCell publishes the record of a cell that this node leads, now in the
// background and again until DropCell. Leader, sequence number and expiry are
// the directory's to fill in.
func (d *Directory) PutCell(r CellRecord) error {
	if _, err := d.sealCell(r); err != nil {
		return err
	}
	d.mu.Lock()
	d.cells[r.Cell] = r
	d.mu.Unlock()
	d.kick()
	return nil
}

// DropCell stops publishing a cell that this node leads no longer.
func (d *Directory) DropCell(id workload.CellID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.cells, id)
}

// Provide announces this node at the keys now, and with each republication
// until the next Provide or PutNode. It returns when it is done or ctx ends.
func (d *Directory) Provide(ctx context.Context, keys []Key) error {
	d.mu.Lock()
	d.keys = slices.Clone(keys[:min(len(keys), maxKeys)])
	d.mu.Unlock()
	return d.provide(ctx, keys[:min(len(keys), maxKeys)])
}

func (d *Directory) sealNode(r NodeRecord) ([]byte, error) {
	r.Addrs = d.h.Addrs()
	r.Addrs = r.Addrs[:min(len(r.Addrs), MaxAddrs)]
	r.Seq, r.Expires = d.nextSeq(), d.cfg.Now().Add(RecordTTL).UnixMilli()
	raw, err := seal(r, d.cfg.Key, d.h.Bundle())
	if err == nil {
		_, err = OpenNode(raw, d.h.Mesh(), d.cfg.Now())
	}
	if err != nil {
		return nil, fmt.Errorf("directory: own record: %w", err)
	}
	return raw, nil
}

func (d *Directory) sealCell(r CellRecord) ([]byte, error) {
	r.Leader = d.h.ID()
	r.Seq, r.Expires = d.nextSeq(), d.cfg.Now().Add(RecordTTL).UnixMilli()
	raw, err := seal(r, d.cfg.Key, d.h.Bundle())
	if err == nil {
		_, err = OpenCell(raw, d.h.Mesh(), d.cfg.Now())
	}
	if err != nil {
		return nil, fmt.Errorf("directory: record of cell %s: %w", r.Cell, err)
	}
	return raw, nil
}

func (d *Directory) storeNode(ctx context.Context, r NodeRecord) error {
	raw, err := d.sealNode(r)
	if err != nil {
		return err
	}
	if err := d.put(ctx, nodeKey(r.Peer), raw); err != nil {
		return fmt.Errorf("directory: put own record: %w", err)
	}
	return nil
}

func (d *Directory) storeCell(ctx context.Context, r CellRecord) error {
	raw, err := d.sealCell(r)
	if err != nil {
		return err
	}
	if err := d.put(ctx, cellKey(r.Cell), raw); err != nil {
		return fmt.Errorf("directory: put cell %s: %w", r.Cell, err)
	}
	return nil
}

// provideParallel is how many keys are announced at once.
const provideParallel = 4

func (d *Directory) provide(ctx context.Context, keys []Key) error {
	var g errgroup.Group
	g.SetLimit(provideParallel)
	for _, k := range keys {
		g.Go(func() error { return d.provideOne(ctx, k) })
	}
	return g.Wait()
}

func (d *Directory) provideOne(ctx context.Context, k Key) error {
	ctx, cancel := context.WithTimeout(ctx, PutTimeout)
	defer cancel()
	c, err := k.cid()
	if err != nil {
		return err
	}
	others := d.dht.RoutingTable().Size() > 0 // alone, the key is kept here only
	if err := d.dht.Provide(ctx, c, others); err != nil {
		return fmt.Errorf("directory: provide: %w", err)
	}
	return nil
}
