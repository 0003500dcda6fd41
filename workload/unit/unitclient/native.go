//go:build !wasip1

package unitclient

import (
	"context"
	"net"
	"os"
	"time"

	"github.com/perrin-mesh/perrin/workload/unit/unitwire"
)

// slack is how long an answer may take beyond what the request asks for.
const slack = 2 * time.Minute

// New returns a client of the node that runs this program, or ErrNoUnit.
func New() (*Client, error) {
	socket := os.Getenv(EnvSocket)
	if socket == "" {
		return nil, ErrNoUnit
	}
	return NewAt(socket), nil
}

// NewAt returns a client of the node that listens on socket.
func NewAt(socket string) *Client {
	return &Client{exchange: func(ctx context.Context, request []byte, wait time.Duration) ([]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, wait+slack)
		defer cancel()
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", socket)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
		resp, err := unitwire.Exchange(conn, request)
		if err != nil && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return resp, err
	}}
}
