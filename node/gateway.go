package node

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/perrin-mesh/perrin/consensus"
	"github.com/perrin-mesh/perrin/consensus/ledger"
	"github.com/perrin-mesh/perrin/consensus/store"
	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/blob"
)

// gateway is the node as its owner's tools see it. It implements api.Backend.
type gateway struct{ n *Node }

var _ api.Backend = gateway{}

// patience is how long a request waits for a cell that has no leader just now.
const patience = 15 * time.Second

// PutBlob implements api.Backend.
func (g gateway) PutBlob(ctx context.Context, r io.Reader) (workload.Ref, error) {
	ref, err := g.n.blobs.PutPinned(ctx, uploadOwner(time.Since(g.n.start), 0), r)
	return ref, apiError(err)
}

// OpenBlob implements api.Backend.
func (g gateway) OpenBlob(ctx context.Context, ref workload.Ref) (io.ReadSeekCloser, error) {
	if err := g.n.Fetch(ctx, ref, g.n.everyone()); err != nil {
		return nil, apiError(err)
	}
	r, err := g.n.blobs.Open(ref)
	return r, apiError(err)
}

// everyone lists who may hold a blob: the voters first, then all other members.
func (n *Node) everyone() []workload.PeerID {
	v := n.homeView()
	var out []workload.PeerID
	for _, p := range v.Voters {
		out = append(out, p.Peer)
	}
	return append(out, v.Members...)
}

// Submit implements api.Backend.
func (g gateway) Submit(ctx context.Context, spec workload.Spec) (*api.Submitted, error) {
	n := g.n
	spec.Version, spec.Mesh, spec.Created = workload.SpecVersion, n.host.Mesh(), time.Now().UnixMilli()
	if _, err := rand.Read(spec.Nonce[:]); err != nil {
		return nil, err
	}
	if err := spec.Validate(); err != nil {
		return nil, &api.Error{Kind: "invalid", Message: err.Error()}
	}
	if spec.Sealed() {
		return nil, &api.Error{Kind: "invalid", Message: "seal.body: it is this node that seals the spec"}
	}
	cell := n.homeCell()
	k, err := n.hideSpec(&spec, cell)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	msg, err := n.submission(&spec, api.TokenOf(ctx))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, submitWithin(leader.Total(msg.Blobs)))
	defer cancel()
	id := leader.IDOf(cell, msg.Spec)
	n.draws.begin(id, &spec)
	if k != nil {
		if err := n.giveShares(ctx, id, msg.Spec, spec.Seal, k); err != nil {
			return nil, err
		}
	}
	if spec.Keep != workload.KeepAll && leader.Total(msg.Blobs) > workload.KeepAutoLimit {
		if err := n.kept.add(keptInputs, id, msg.Blobs); err != nil { // released again if nobody accepts it
			return nil, apiError(err)
		}
	}
	var answer wire.Submitted
	full := time.Now().Add(fullPatience)
	err = n.callUntil(ctx, cell, wire.ProtoSubmit, msg, &answer, func(err error) bool {
		return errors.Is(err, wire.NoSpace) && time.Now().After(full)
	})
	if err != nil {
		return nil, apiError(err)
	}
	for back := range 2 {
		n.blobs.UnpinRefs(uploadOwner(time.Since(n.start), back), msg.Blobs...)
	}
	return &api.Submitted{ID: answer.ID, Held: answer.Held, Note: n.leansOn(answer.Held)}, nil
}

// submitWithin bounds a submission: a minute, and one second for each MiB that has
// to be copied.
func submitWithin(bytes int64) time.Duration {
	return time.Minute + time.Duration(bytes>>20)*time.Second
}

// fullPatience is how long a submission waits for a leader whose disk is not full.
const fullPatience = 5 * time.Second

// leansOn says what an acknowledged workload would not survive.
func (n *Node) leansOn(held bool) string {
	view := n.homeView()
	switch {
	case !held:
		return fmt.Sprintf("inputs over %d MiB stay on this node: the workload leans on %s until it ends (--keep-inputs all copies them)", workload.KeepAutoLimit>>20, n.name)
	case len(view.Voters) == 1 && len(view.Members) > 1:
		return "the cell has one voter: losing its disk loses the workload"
	}
	return ""
}

// maxSpec bounds the encoded spec in bytes: what goes into the log with it has
// to fit in an entry.
const maxSpec = consensus.MaxEntry - 4096

// submission gathers what goes to the leader: the signed spec, and the blobs
// that are small enough to ride along.
func (n *Node) submission(spec *workload.Spec, token []workload.Signed) (*wire.Submit, error) {
	refs := n.needs(spec)
	msg := &wire.Submit{Home: n.self, Blobs: refs, Token: token}
	raw := wire.MustMarshal(spec)
	if len(raw) > maxSpec {
		return nil, &api.Error{Kind: "too-large", Message: fmt.Sprintf("the spec is %d bytes, at most %d", len(raw), maxSpec), Hint: "move long argument lists or inputs into files"}
	}
	msg.Spec = n.memo.Sign(workload.DomainSpec, raw, n.id.owner)
	room := int64(wire.InlineTotal)
	seen := map[workload.Digest]bool{}
	for _, ref := range refs {
		if !n.blobs.Has(ref) {
			return nil, &api.Error{Kind: "invalid", Message: fmt.Sprintf("blob %s was not uploaded, or was evicted", ref.Digest.Short())}
		}
		if ref.Size > wire.InlineLimit || ref.Size > room || len(msg.Inline) == 256 || seen[ref.Digest] {
			continue
		}
		data, err := n.blobs.ReadAll(ref, wire.InlineLimit)
		if err != nil {
			return nil, err
		}
		seen[ref.Digest] = true
		room -= ref.Size
		msg.Inline = append(msg.Inline, wire.Inline{Data: data})
	}
	return msg, nil
}

// query asks the leader of a cell and decodes the JSON of its answer.
func (n *Node) query(ctx context.Context, cell workload.CellID, m *wire.QueryMsg, into any) error {
	wait := patience + time.Duration(m.TimeoutMs)*time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var answer wire.QueryAnswer
	m.Token = n.tokenOf(ctx)
	if err := n.CallLeader(ctx, cell, wire.ProtoQuery, m, &answer); err != nil {
		return apiError(err)
	}
	return json.Unmarshal(answer.JSON, into)
}

// Resolve implements api.Backend.
func (g gateway) Resolve(ctx context.Context, text string) (workload.ID, error) {
	if id, err := workload.ParseID(text); err == nil {
		return id, nil
	}
	var id workload.ID
	err := g.n.query(ctx, g.n.homeCell(), &wire.QueryMsg{Op: leader.QueryResolve, Text: text[:min(len(text), 256)]}, &id)
	return id, err
}

// List implements api.Backend. Under a token it lists what that is about.
func (g gateway) List(ctx context.Context, all bool, labels map[string]string) (out []api.Workload, err error) {
	err = g.n.query(ctx, g.n.homeCell(), &wire.QueryMsg{Op: leader.QueryList, All: all, Labels: labels}, &out)
	if token := api.TokenOf(ctx); len(token) > 0 {
		of := token[0].By
		out = slices.DeleteFunc(out, func(w api.Workload) bool { return w.Owner != of })
	}
	return out, err
}

// Inspect implements api.Backend.
func (g gateway) Inspect(ctx context.Context, id workload.ID) (*api.Workload, error) {
	var w api.Workload
	return &w, g.n.query(ctx, id.Cell, &wire.QueryMsg{Op: leader.QueryInspect, ID: id}, &w)
}

// Wait implements api.Backend. It asks in turns that are shorter than any
// request may take, so that a change of leader costs one turn.
func (g gateway) Wait(ctx context.Context, id workload.ID, since uint64, timeout time.Duration) (*api.Workload, error) {
	end := time.Now().Add(timeout)
	for {
		left := max(time.Until(end), 0)
		var w api.Workload
		m := &wire.QueryMsg{Op: leader.QueryWait, ID: id, Since: since, TimeoutMs: min(left, 5*time.Second).Milliseconds()}
		if err := g.n.query(ctx, id.Cell, m, &w); err != nil {
			return nil, err
		}
		if w.Version > since || w.Phase.Ended() || left <= 5*time.Second {
			return &w, nil
		}
	}
}

// Why implements api.Backend.
func (g gateway) Why(ctx context.Context, id workload.ID, task *uint32) (*api.Why, error) {
	var w api.Why
	return &w, g.n.query(ctx, id.Cell, &wire.QueryMsg{Op: leader.QueryWhy, ID: id, Task: task}, &w)
}

// Stop implements api.Backend.
func (g gateway) Stop(ctx context.Context, id workload.ID) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m := &wire.StopMsg{ID: id, Order: workload.Sign(workload.DomainStop, wire.MustMarshal(id), g.n.id.owner), Token: api.TokenOf(ctx)}
	return apiError(g.n.CallLeader(ctx, id.Cell, wire.ProtoStop, m, &wire.Ack{}))
}

// Invite implements api.Backend.
func (g gateway) Invite(_ context.Context, uses int, ttl time.Duration) (*api.Invitation, error) {
	issuer, err := g.n.operatorHere()
	if err != nil {
		return nil, err
	}
	if err := g.n.ensureCharter(); err != nil {
		return nil, err
	}
	v, err := issuer.Invite(uses, ttl, g.n.host.Addrs(), time.Now())
	if err != nil {
		return nil, &api.Error{Kind: "invalid", Message: err.Error()}
	}
	token, err := v.Token()
	return &api.Invitation{Token: token, Uses: uses, Expires: v.Expires}, err
}

// Drain implements api.Backend: no new work comes here, another voter leads,
// and it returns when what runs has ended.
func (g gateway) Drain(ctx context.Context) error {
	g.n.worker.Drain(drainNotice)
	g.n.handOver()
	return g.n.worker.Idle(ctx)
}

// drainNotice is the time that a drained node's attempts are told they have.
const drainNotice = 10 * time.Minute

// Config implements api.Backend.
func (g gateway) Config() []api.Setting {
	list := slices.Clone(g.n.cfg.Settings)
	for i, s := range list {
		if s.Name == "name" && s.Value != g.n.name {
			list[i].Value, list[i].Source = g.n.name, "the node's certificate"
		}
	}
	return list
}

// apiError says in the API's words what went wrong.
func apiError(err error) error {
	var known *api.Error
	var e *wire.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return err
	case errors.As(err, &e) && (e.Kind == wire.Busy || e.Kind == wire.Full):
		return &api.Error{Kind: api.Busy, Message: e.Detail, Hint: hintOf(e.Kind)}
	case errors.As(err, &e) && e.Kind == wire.NoSpace:
		return &api.Error{Kind: api.Unavailable, Message: e.Detail, Hint: hintOf(e.Kind)}
	case errors.Is(err, store.ErrNoSpace), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &api.Error{Kind: api.Unavailable, Message: err.Error(), Hint: hintOf(wire.NoSpace)}
	case errors.Is(err, blob.ErrFull):
		return &api.Error{Kind: api.Busy, Message: err.Error(), Hint: "raise --blob-limit (`perrin config show` prints it), or wait until workloads that hold the room have ended"}
	case errors.As(err, &e) && errors.Is(err, wire.Unavailable), errors.Is(err, context.DeadlineExceeded):
		return &api.Error{Kind: "unavailable", Message: fmt.Sprintf("the cell has no leader that answers: %v", err), Hint: "`perrin status` says which voters are there"}
	case errors.As(err, &e) && strings.HasPrefix(e.Detail, string(ledger.OverQuota)):
		return &api.Error{Kind: apiKind(e.Kind), Message: e.Detail, Hint: "`perrin quota` shows it; an operator raises it with `perrin quota set`. A token's limits are in `perrin token inspect FILE`"}
	case errors.As(err, &e) && putOut(e.Detail):
		return &api.Error{Kind: apiKind(e.Kind), Message: e.Detail, Hint: admission.Hint(admission.ErrDenied)}
	case errors.As(err, &e):
		return &api.Error{Kind: apiKind(e.Kind), Message: e.Detail, Hint: hintOf(e.Kind)}
	case errors.Is(err, wire.Unavailable):
		return &api.Error{Kind: "unavailable", Message: err.Error(), Hint: "`perrin status` says which voters are there"}
	}
	return err
}

// putOut reports whether a peer's refusal says that somebody is denied.
func putOut(detail string) bool { return strings.Contains(detail, admission.ErrDenied.Error()) }

// hintOf says what to do about a refusal of the cell's.
func hintOf(k wire.Kind) string {
	switch k {
	case wire.NotFound:
		return "`perrin ps -a` lists your workloads"
	case wire.Exists:
		return "`perrin ps -a` shows their IDs"
	case wire.Unauthorized:
		return "type it on that node"
	case wire.NotYours:
		return "ask its owner for a token (`perrin token issue --to PEER --may observe`, where PEER is this node's identity in `perrin trust status`), and name it with --token FILE"
	case wire.Busy:
		return "the cell has more to do than it takes at once; try again in a few seconds"
	case wire.NoSpace:
		return "make room on that disk; nothing that was acknowledged is lost, and the node goes on by itself"
	case wire.Full:
		return "try again when some workloads have ended; `perrin ps` lists those that have not"
	}
	return ""
}

func apiKind(k wire.Kind) string {
	switch k {
	case wire.NotFound:
		return "not-found"
	case wire.Malformed:
		return "invalid"
	case wire.TooLarge:
		return "too-large"
	case wire.Unauthorized, wire.NotYours:
		return "unauthorized"
	case wire.Exists:
		return "ambiguous"
	case wire.Refused, wire.Expired:
		return "refused"
	case wire.NotLeader, wire.Unavailable:
		return "unavailable"
	}
	return "internal"
}
