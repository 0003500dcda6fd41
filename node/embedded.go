package node

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/sandbox"
)

// Embedded starts a mesh of one node inside this process, in a temporary
// folder, and returns once it takes work. It gets ready for programs of the given
// kinds alone. stop ends it and removes the folder.
func Embedded(ctx context.Context, version string, log *slog.Logger, kinds ...workload.Kind) (n *Node, stop func(), err error) {
	data, removeData, err := sandbox.TempDir("perrin-embedded-")
	if err != nil {
		return nil, nil, err
	}
	remove := func() { _ = removeData() }
	if _, err := Init(data, "embedded"); err != nil {
		remove()
		return nil, nil, err
	}
	n, err = New(ctx, Config{
		Data: data, Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"}, Loopback: true, Version: version, Log: log,
		Kinds: kinds,
	})
	if err != nil {
		remove()
		return nil, nil, err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- n.Run(run) }()
	stop = func() { cancel(); <-done; remove() }
	select {
	case <-n.Ready():
		return n, stop, nil
	case err := <-done:
		done <- err
		stop()
		return nil, nil, fmt.Errorf("the node ended: %w", err)
	case <-ctx.Done():
		stop()
		return nil, nil, ctx.Err()
	}
}
