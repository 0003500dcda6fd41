package node

import (
	"context"
	"errors"
	"io/fs"
	"net/http"

	"github.com/perrin-mesh/perrin/node/api"
)

// openAPI serves the local API on the node's socket; what it returns ends that.
func (n *Node) openAPI() (stop func(), err error) {
	if n.cfg.Socket == "" {
		return func() {}, nil
	}
	l, err := api.Listen(n.cfg.Socket, fs.FileMode(n.cfg.Mode))
	if err != nil {
		return nil, err
	}
	server := api.NewServer(n.Backend(), n.log.With("part", "api"), api.Options{Pprof: n.cfg.Pprof})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(ctx, l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			n.log.Error("the local API ended", "err", err)
		}
	}()
	return func() { cancel(); <-done }, nil
}

// Backend is the node as its owner's tools see it.
func (n *Node) Backend() api.Backend { return gateway{n} }
