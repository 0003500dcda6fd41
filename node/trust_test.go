package node_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/node"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/devmesh"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/rights"
)

// TestOperatorsAndDenials names a second operator, puts a node out and lets it
// in again, on a mesh of four daemons.
func TestOperatorsAndDenials(t *testing.T) {
	m := startMesh(t, devmesh.Options{Nodes: 4, Args: shortLease, Owners: true})
	m.learnIDs()
	t.Run("a workload is its owner's", func(t *testing.T) { m.on(t).tenants() })
	t.Run("a second operator", func(t *testing.T) { m.on(t).secondOperator() })
	t.Run("a node is put out", func(t *testing.T) { m.on(t).putOut() })
}

// tenants: what runs is seen and stopped by its owner, and by whom the owner gave a
// token.
func (m *testMesh) tenants() {
	t := m.t
	owner, guest := m.client(2), m.client(3)
	spec := workload.DefaultSpec()
	spec.Name, spec.Program, spec.Args = "secret", workload.Program{Kind: workload.Process, Name: "sh", Host: "sh"}, []string{"-c", "echo hidden; sleep 300"}
	w, err := owner.Submit(within(t, time.Minute), spec)
	if err != nil {
		t.Fatal(err)
	}
	poll(t, time.Minute, "it runs", func(ctx context.Context) (*api.Workload, error) { return owner.Inspect(ctx, w.ID) },
		func(w *api.Workload) bool { return w.Phase == workload.Running })
	read := func(c *api.Client, ctx context.Context) map[string]error {
		all := map[string]error{}
		_, all["inspect"] = c.Inspect(ctx, w.ID)
		_, all["wait"] = c.Wait(ctx, w.ID, 0, time.Millisecond)
		_, all["why"] = c.Why(ctx, w.ID, nil)
		_, all["tasks"] = c.Tasks(ctx, w.ID, 0, 1)
		all["logs"] = c.Attach(ctx, w.ID, api.AttachOptions{Stdout: io.Discard})
		return all
	}
	for what, err := range read(guest, within(t, time.Minute)) {
		if api.KindOf(err) != api.Unauthorized || !strings.Contains(err.Error(), "not yours") {
			t.Errorf("%s of somebody else's workload: %v", what, err)
		}
	}
	for name, hint := range map[string]string{m.Members[2].Name: "perrin quota set 12D3", m.Members[3].Name: "perrin quota"} {
		_, err := m.client(0).SetQuota(within(t, time.Minute), api.QuotaChange{Account: name, Limit: 10})
		var e *api.Error
		if !errors.As(err, &e) || e.Kind != api.Refused || !strings.Contains(e.Hint, hint) {
			t.Errorf("a quota of the node %s, whose account only earns: %v", name, err)
		}
	}
	if _, err := guest.Resolve(within(t, time.Minute), "secret"); api.KindOf(err) != api.NotFound {
		t.Errorf("somebody else's workload has a name: %v", err)
	}
	if list, err := guest.List(within(t, time.Minute), true, nil); err != nil || len(list) != 0 {
		t.Errorf("a list shows somebody else's workload: %v, %v", list, err)
	}
	if err := guest.Stop(within(t, time.Minute), w.ID); api.KindOf(err) != api.Unauthorized {
		t.Errorf("somebody else's workload is stopped: %v", err)
	}
	made, err := owner.MakeToken(within(t, time.Minute), api.TokenOrder{To: m.Members[3].Name, May: []rights.Capability{rights.Observe}})
	if err != nil {
		t.Fatal(err)
	}
	token, err := rights.Parse(made.Text)
	if err != nil {
		t.Fatal(err)
	}
	with := api.WithToken(within(t, time.Minute), token)
	for what, err := range read(guest, with) {
		if err != nil {
			t.Errorf("%s with a token: %v", what, err)
		}
	}
	if list, err := guest.List(with, true, nil); err != nil || len(list) != 1 || list[0].ID != w.ID {
		t.Errorf("a list with a token: %v, %v", list, err)
	}
	if err := guest.Stop(with, w.ID); api.KindOf(err) != api.Refused {
		t.Errorf("a token to observe stops: %v", err)
	}
	if _, err := m.client(0).Inspect(api.WithToken(within(t, time.Minute), token), w.ID); api.KindOf(err) != api.Refused {
		t.Errorf("a token works for another node: %v", err)
	}
	if err := owner.Stop(within(t, time.Minute), w.ID); err != nil {
		t.Error(err)
	}
	m.submitsForAnother(spec)
}

// submitsForAnother: a node submits at another owner's cost, within what the token
// allows, and the other one sees and stops it.
func (m *testMesh) submitsForAnother(spec workload.Spec) {
	t := m.t
	owner, guest := m.client(2), m.client(3)
	made, err := owner.MakeToken(within(t, time.Minute), api.TokenOrder{To: m.Members[3].Name, May: []rights.Capability{rights.Submit, rights.Operate},
		Limits: workload.TokenLimits{MaxPrice: 1_000_000, CPUs: 1}})
	if err != nil {
		t.Fatal(err)
	}
	token, err := rights.Parse(made.Text)
	if err != nil {
		t.Fatal(err)
	}
	with := api.WithToken(within(t, 2*time.Minute), token)
	if _, err := guest.Submit(with, spec); api.KindOf(err) != api.Refused || !strings.Contains(err.Error(), "max-price") {
		t.Errorf("a workload without a price under a token with one: %v", err)
	}
	spec.Name, spec.MaxPrice = "theirs", 1_000_000
	w, err := guest.Submit(with, spec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := guest.Submit(with, spec); api.KindOf(err) != api.Refused || !strings.Contains(err.Error(), "cpus") {
		t.Errorf("more CPUs than the token allows: %v", err)
	}
	if _, err := m.client(1).Submit(api.WithToken(within(t, time.Minute), token), spec); api.KindOf(err) != api.Refused {
		t.Errorf("a token submits from another node: %v", err)
	}
	poll(t, time.Minute, "who pays sees it run", func(ctx context.Context) (*api.Workload, error) { return owner.Inspect(ctx, w.ID) },
		func(w *api.Workload) bool { return w.Phase == workload.Running })
	if err := owner.Stop(within(t, time.Minute), w.ID); err != nil {
		t.Errorf("who pays stops it: %v", err)
	}
	spec.Name = "theirs too"
	if w, err = guest.Submit(with, spec); err != nil {
		t.Fatal(err)
	}
	m.revokes(made.Text, w.ID, spec)
}

// revokes: what runs under a token that its owner takes back is stopped, nothing more is
// taken under it, and every node says why.
func (m *testMesh) revokes(text string, runs workload.ID, spec workload.Spec) {
	t := m.t
	owner, guest := m.client(2), m.client(3)
	token, err := rights.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := guest.RevokeToken(within(t, time.Minute), api.TokenToRevoke{Token: text}); api.KindOf(err) != api.Unauthorized {
		t.Errorf("who was given a token revokes it: %v", err)
	}
	for i := range 2 {
		r, err := owner.RevokeToken(within(t, time.Minute), api.TokenToRevoke{Token: text})
		if err != nil || r.Link != 1 || r.Already != (i == 1) {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	for i := range m.Members {
		poll(t, 2*time.Minute, "every node hears of it", func(ctx context.Context) (*api.CheckedToken, error) { return m.client(i).CheckToken(ctx, text) },
			func(c *api.CheckedToken) bool { return strings.Contains(c.Revoked, "link 1 of 1") })
	}
	poll(t, 2*time.Minute, "what runs under it ends", func(ctx context.Context) (*api.Workload, error) { return owner.Inspect(ctx, runs) },
		func(w *api.Workload) bool {
			return w.Phase == workload.Stopped && strings.Contains(w.Reason, "token that it was submitted under was revoked")
		})
	with := api.WithToken(within(t, time.Minute), token)
	spec.Name = "too late"
	if _, err := guest.Submit(with, spec); api.KindOf(err) != api.Refused || !strings.Contains(err.Error(), "was revoked by") {
		t.Errorf("submit under a revoked token: %v", err)
	}
	if _, err := guest.MakeToken(within(t, time.Minute), api.TokenOrder{Of: text, To: m.Members[1].Name}); api.KindOf(err) != api.Refused {
		t.Errorf("a revoked token is handed on: %v", err)
	}
}

// secondOperator: what the first operator's node could do, the second can too.
func (m *testMesh) secondOperator() {
	t := m.t
	first, second := m.client(0), m.client(1)
	if _, err := second.ChangeOperator(within(t, 30*time.Second), api.OperatorChange{Node: m.Members[2].Name}); api.KindOf(err) != api.Unauthorized {
		t.Errorf("without the root key an operator is named: %v", err)
	}
	o, err := first.ChangeOperator(within(t, 30*time.Second), api.OperatorChange{Node: m.Members[1].Name})
	if err != nil || o.Name != m.Members[1].Name {
		t.Fatalf("%+v, %v", o, err)
	}
	for i := range m.Members {
		poll(t, time.Minute, "every node knows both operators", m.client(i).Trust, func(tr *api.Trust) bool { return len(tr.Operators) == 2 })
	}
	v, err := second.Invite(within(t, 30*time.Second), 1, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.Join(within(t, time.Minute), t.TempDir(), "guest", v.Token); err != nil {
		t.Errorf("join at the second operator: %v", err)
	}
	if _, err := second.ChangeDenied(within(t, 30*time.Second), api.DenyChange{Peer: m.Members[0].Name}); api.KindOf(err) != api.Refused {
		t.Errorf("an operator's node is put out: %v", err)
	}
}

// putOut: a denied node leaves the cell, and comes back when that is lifted.
func (m *testMesh) putOut() {
	t := m.t
	second, out := m.client(1), m.Members[3].Name
	if _, err := m.client(2).ChangeDenied(within(t, 30*time.Second), api.DenyChange{Peer: out}); api.KindOf(err) != api.Unauthorized {
		t.Errorf("without an operator's key a node is put out: %v", err)
	}
	d, err := second.ChangeDenied(within(t, 30*time.Second), api.DenyChange{Peer: out, ForMs: time.Hour.Milliseconds(), Reason: "lost"})
	if err != nil || d.Until == nil || d.Seq != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	for i := range 3 {
		poll(t, time.Minute, "it is denied everywhere", m.client(i).Trust, func(tr *api.Trust) bool { return len(tr.Denied) == 1 && tr.Denied[0].Name == out })
	}
	if _, err := m.client(0).ChangeOperator(within(t, 30*time.Second), api.OperatorChange{Node: m.Members[1].Name, Rotate: true}); err != nil {
		t.Fatal(err)
	}
	poll(t, time.Minute, "the operator denies it with its new key too", m.client(2).Trust, func(tr *api.Trust) bool {
		return len(tr.Removed) == 1 && len(tr.Denied) == 1 && tr.Denied[0].By == m.Members[1].Name && tr.Denied[0].Reason == "lost"
	})
	members := func(n int) func(*api.Status) bool {
		return func(st *api.Status) bool { return st.Ready && st.Cells[0].Members == n }
	}
	status := func(ctx context.Context) (*api.Status, error) { return m.client(0).Status(ctx, false) }
	poll(t, 2*time.Minute, "the cell evicts it", status, members(3))
	poll(t, time.Minute, "it has no cell any more", func(ctx context.Context) (*api.Status, error) { return m.client(3).Status(ctx, false) },
		func(st *api.Status) bool {
			return !st.Ready && strings.Contains(strings.Join(st.Warnings, " "), "is denied until")
		})
	if _, err := m.client(0).ChangeDenied(within(t, 30*time.Second), api.DenyChange{Peer: out, Lift: true}); api.KindOf(err) != api.Refused {
		t.Errorf("another operator's denial is lifted: %v", err)
	}
	for _, lift := range []bool{false, true} { // its own word, which leaves the other's as it is
		if _, err := m.client(0).ChangeDenied(within(t, 30*time.Second), api.DenyChange{Peer: out, Lift: lift}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.client(0).ChangeOperator(within(t, 30*time.Second), api.OperatorChange{Node: m.Members[1].Name, Remove: true}); err != nil {
		t.Fatal(err)
	}
	if d, err := m.client(0).ChangeDenied(within(t, 30*time.Second), api.DenyChange{Peer: out, Lift: true}); err != nil || len(d.Others) != 0 {
		t.Fatalf("lifting what was taken over: %+v, %v", d, err)
	}
	poll(t, 2*time.Minute, "it is a member again", status, members(4))
}
