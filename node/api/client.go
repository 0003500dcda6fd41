package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// Bounds of what the client reads of an answer that is not a blob.
const (
	maxAnswer      = 256 << 20
	maxErrorAnswer = 64 << 10
	waitStep       = 30 * time.Second
)

// Client speaks to a daemon. It is a Backend: every method does what the
// daemon's own does. It may be used from any goroutine.
type Client struct {
	socket string
	http   *http.Client
}

var _ Backend = (*Client)(nil)

// Dial returns a client of the daemon that serves socket. The error wraps
// ErrNoDaemon when nothing answers there, and is of kind Unauthorized when the
// socket's permissions keep this user out.
func Dial(socket string) (*Client, error) {
	c := &Client{socket: socket}
	conn, err := c.dial(context.Background())
	if err != nil {
		return nil, err
	}
	conn.Close()
	c.http = &http.Client{Transport: &http.Transport{
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		MaxIdleConns:    32,
		MaxConnsPerHost: 64, MaxIdleConnsPerHost: 32, IdleConnTimeout: idleTimeout / 2,
		DisableCompression: true,
	}}
	return c, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Socket returns the path that the client dials.
func (c *Client) Socket() string { return c.socket }

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	conn, err := c.knock(ctx)
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, syscall.EAGAIN):
		return nil, Errorf(Busy, "the daemon at %s has as many connections as it takes, and more wait than fit", c.socket).WithHint(hintBusy)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTSOCK):
		return nil, fmt.Errorf("%w at %s", ErrNoDaemon, c.socket)
	case errors.Is(err, fs.ErrPermission):
		return nil, Errorf(Unauthorized, "this user may not use the daemon at %s", c.socket).
			WithHint("run as its owner, or join the group of the socket")
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("%w at %s: %w", ErrNoDaemon, c.socket, err)
}

// knock connects. A daemon whose queue of connections is full refuses at once
// (EAGAIN, unix(7)); it is asked again for dialTimeout.
func (c *Client) knock(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	for waited, pause := time.Duration(0), knockEvery; ; waited, pause = waited+pause, 2*pause {
		conn, err := d.DialContext(ctx, "unix", c.socket)
		if !errors.Is(err, syscall.EAGAIN) || waited >= dialTimeout {
			return conn, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// do sends one request and returns a successful answer's body.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, body io.Reader, header http.Header) (*http.Response, error) {
	target := url.URL{Scheme: "http", Host: "perrin", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	carryToken(req)
	resp, err := c.patient(ctx, req)
	if err != nil {
		return nil, c.lost(ctx, err)
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return resp, nil
}

// patient asks again, a little later each time, while a daemon is too busy to
// be asked. What changes something is the caller's to repeat.
func (c *Client) patient(ctx context.Context, req *http.Request) (*http.Response, error) {
	pause := 100 * time.Millisecond
	for {
		resp, err := c.http.Do(req)
		if err != nil || resp.StatusCode != statusOf[Busy] || req.Method != http.MethodGet || pause > busyPause {
			return resp, err
		}
		resp.Body.Close()
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// busyPause is the longest pause before a busy daemon is asked again: it is
// asked for 12 s in all.
const busyPause = 6400 * time.Millisecond

// lost explains why no answer came.
func (c *Client) lost(ctx context.Context, err error) error {
	var own *Error
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ErrNoDaemon):
		return fmt.Errorf("%w at %s", ErrNoDaemon, c.socket)
	case errors.As(err, &own):
		return own
	}
	return Errorf(Unavailable, "the daemon at %s went away: %s", c.socket, rootCause(err))
}

// rootCause drops the method and URL that net/http puts before an error.
func rootCause(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err.Error()
	}
	return err.Error()
}

func readError(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorAnswer))
	var e Error
	if err != nil || json.Unmarshal(body, &e) != nil || e.Kind == "" {
		return Errorf(Internal, "the daemon answered %s: %.200q", resp.Status, body).
			WithHint("is this the version of perrin that the daemon runs? compare `perrin version` and `perrin status`")
	}
	return &e
}

// call sends in (when not nil) as JSON and decodes the answer into out (when not nil).
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("%s %s: encode: %w", method, path, err)
		}
		body = bytes.NewReader(b)
	}
	resp, err := c.do(ctx, method, path, query, body, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxErrorAnswer))
		return err
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return c.lost(ctx, fmt.Errorf("%s %s: decode: %w", method, path, err))
	}
	return nil
}

// get is call for a pointer result.
func get[T any](ctx context.Context, c *Client, path string, query url.Values) (*T, error) {
	out := new(T)
	if err := c.call(ctx, http.MethodGet, path, query, nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

func of(id workload.ID, rest string) string { return "/v1/workloads/" + id.String() + rest }

func flag(on bool) string {
	if on {
		return "1"
	}
	return "0"
}

// Status implements Backend.
func (c *Client) Status(ctx context.Context, stats bool) (*Status, error) {
	return get[Status](ctx, c, "/v1/status", url.Values{"stats": {flag(stats)}})
}

// Nodes implements Backend.
func (c *Client) Nodes(ctx context.Context, find string) ([]Node, error) {
	var out []Node
	err := c.call(ctx, http.MethodGet, "/v1/nodes", url.Values{"find": {find}}, nil, &out)
	return out, err
}

// Picture implements Backend.
func (c *Client) Picture(ctx context.Context, node string) (*workload.Picture, error) {
	return get[workload.Picture](ctx, c, "/v1/nodes/"+url.PathEscape(node), nil)
}

// Submit implements Backend.
func (c *Client) Submit(ctx context.Context, spec workload.Spec) (*Submitted, error) {
	out := new(Submitted)
	if err := c.call(ctx, http.MethodPost, "/v1/workloads", nil, spec, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Resolve implements Backend.
func (c *Client) Resolve(ctx context.Context, text string) (workload.ID, error) {
	var id workload.ID
	err := c.call(ctx, http.MethodGet, "/v1/resolve", url.Values{"text": {text}}, nil, &id)
	return id, err
}

// List implements Backend.
func (c *Client) List(ctx context.Context, all bool, labels map[string]string) ([]Workload, error) {
	q := url.Values{"all": {flag(all)}}
	for name, value := range labels {
		q.Add("label", name+"="+value)
	}
	var out []Workload
	err := c.call(ctx, http.MethodGet, "/v1/workloads", q, nil, &out)
	return out, err
}

// Inspect implements Backend.
func (c *Client) Inspect(ctx context.Context, id workload.ID) (*Workload, error) {
	return get[Workload](ctx, c, of(id, ""), nil)
}

// Wait implements Backend; a long timeout is asked for in steps.
func (c *Client) Wait(ctx context.Context, id workload.ID, since uint64, timeout time.Duration) (*Workload, error) {
	end := time.Now().Add(timeout)
	for {
		left := time.Until(end)
		step := max(0, min(left, waitStep))
		w, err := get[Workload](ctx, c, of(id, "/wait"), url.Values{
			"since":      {strconv.FormatUint(since, 10)},
			"timeout_ms": {strconv.FormatInt(step.Milliseconds(), 10)},
		})
		if err != nil || w.Version > since || w.Phase.Ended() || left <= waitStep {
			return w, err
		}
	}
}

// Tasks implements Backend; it answers in pages of at most 4096.
func (c *Client) Tasks(ctx context.Context, id workload.ID, from, count uint32) ([]Task, error) {
	page, err := get[taskPage](ctx, c, of(id, "/tasks"), url.Values{
		"from": {strconv.FormatUint(uint64(from), 10)}, "count": {strconv.FormatUint(uint64(count), 10)},
	})
	if err != nil {
		return nil, err
	}
	return page.Tasks, nil
}

// Why implements Backend.
func (c *Client) Why(ctx context.Context, id workload.ID, task *uint32) (*Why, error) {
	q := url.Values{}
	if task != nil {
		q.Set("task", strconv.FormatUint(uint64(*task), 10))
	}
	return get[Why](ctx, c, of(id, "/why"), q)
}

// Stop implements Backend.
func (c *Client) Stop(ctx context.Context, id workload.ID) error {
	return c.call(ctx, http.MethodPost, of(id, "/stop"), nil, nil, nil)
}

// Invite implements Backend.
func (c *Client) Invite(ctx context.Context, uses int, ttl time.Duration) (*Invitation, error) {
	out := new(Invitation)
	err := c.call(ctx, http.MethodPost, "/v1/invitations", nil, inviteRequest{uses, ttl.Milliseconds()}, out)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Drain implements Backend.
func (c *Client) Drain(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/drain", nil, nil, nil)
}

// Metrics implements Backend.
func (c *Client) Metrics(w io.Writer) error {
	resp, err := c.do(context.Background(), http.MethodGet, "/metrics", nil, nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(w, resp.Body)
	return err
}

// Config implements Backend; it returns nil when the daemon does not answer.
func (c *Client) Config() []Setting {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	out, err := get[[]Setting](ctx, c, "/v1/config", nil)
	if err != nil {
		return nil
	}
	return *out
}
