// Package unitclient is the unit's own protocol for a Go program that runs as
// a workload: who am I, my inputs, publish an output, notice, cost. It works
// natively, over the socket that PERRIN_UNIT names, and as a wasip1 guest,
// through the import perrin.call, from the same source. It needs no HTTP
// library, so that a small program stays small.
package unitclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/perrin-mesh/perrin/workload/unit/unitwire"
)

// EnvSocket names the environment variable with the path of the socket.
const EnvSocket = "PERRIN_UNIT"

// ErrNoUnit is returned when the program does not run as a workload.
var ErrNoUnit = errors.New("not a workload: " + EnvSocket + " is not set")

const statusOK = 200

// Error is an answer of the node that is not a success.
type Error struct {
	Status  int // of HTTP
	Message string
	Hint    string
}

// Error returns the node's words.
func (e *Error) Error() string {
	s := fmt.Sprintf("the node says %d: %s", e.Status, e.Message)
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Client asks the node. It may be used from many goroutines at once; in a
// wasip1 guest a call stops all of them until it is answered.
type Client struct {
	exchange func(ctx context.Context, request []byte, wait time.Duration) ([]byte, error)
}

// Whoami returns who this attempt is.
func (c *Client) Whoami(ctx context.Context) (w unitwire.Whoami, err error) {
	return w, c.call(ctx, "GET", "/v1/whoami", nil, 0, &w)
}

// Inputs returns the inputs of the task.
func (c *Client) Inputs(ctx context.Context) ([]unitwire.Input, error) {
	var list unitwire.Inputs
	err := c.call(ctx, "GET", "/v1/inputs", nil, 0, &list)
	return list.Inputs, err
}

// Publish makes content the output called name, a clean relative path, and
// returns when the owner can see it. Content of more than a few MiB is better
// written to the output folder and given to PublishFile.
func (c *Client) Publish(ctx context.Context, name string, content []byte) (p unitwire.Published, err error) {
	return p, c.call(ctx, "POST", "/v1/publish?path="+url.QueryEscape(name), content, 0, &p)
}

// PublishFile makes the file from, a path relative to the output folder, the
// output called name, and returns when the owner can see it.
func (c *Client) PublishFile(ctx context.Context, name, from string) (p unitwire.Published, err error) {
	q := "?path=" + url.QueryEscape(name) + "&from=" + url.QueryEscape(from)
	return p, c.call(ctx, "POST", "/v1/publish"+q, nil, 0, &p)
}

// Notice returns the latest notice if it is newer than after, the Seq of
// another (0 is before the first); otherwise it waits for one as long as wait,
// at most five minutes, and returns the latest all the same. To watch for
// notices call it in a loop with the Seq of the last.
func (c *Client) Notice(ctx context.Context, after uint64, wait time.Duration) (n unitwire.Notice, err error) {
	path := fmt.Sprintf("/v1/notice?after=%d&wait=%dms", after, wait.Milliseconds())
	return n, c.call(ctx, "GET", path, nil, wait, &n)
}

// Cost returns what the attempt costs so far.
func (c *Client) Cost(ctx context.Context) (cost unitwire.Cost, err error) {
	return cost, c.call(ctx, "GET", "/v1/cost", nil, 0, &cost)
}

func (c *Client) call(ctx context.Context, method, path string, body []byte, wait time.Duration, answer any) error {
	resp, err := c.exchange(ctx, unitwire.Request(method, path, body), wait)
	if err != nil {
		return fmt.Errorf("ask the node: %w", err)
	}
	status, text, err := unitwire.SplitResponse(resp)
	if err != nil {
		return fmt.Errorf("ask the node: %w", err)
	}
	if status != statusOK {
		return refused(status, text)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("ask the node: %s: %w", path, err)
	}
	return nil
}

func refused(status int, text []byte) error {
	var e unitwire.Error
	if err := json.Unmarshal(text, &e); err != nil || e.Message == "" {
		e.Message = fmt.Sprintf("%.200q", text)
	}
	return &Error{Status: status, Message: e.Message, Hint: e.Hint}
}
