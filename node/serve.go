package node

import (
	"context"

	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/node/leader"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/blob"
)

// led serves a protocol of the leader: any other node says who that is.
func led[Req, Resp any](n *Node, on mesh.Server, proto string, max int, fn func(*leader.Leader, context.Context, workload.PeerID, *Req) (*Resp, error)) {
	mesh.HandleTyped(on, proto, max, func(ctx context.Context, from workload.PeerID, req *Req) (*Resp, error) {
		l, err := n.leading()
		if err != nil {
			return nil, err
		}
		return fn(l, ctx, from, req)
	})
}

// acked makes a handler without an answer one that says yes.
func acked[Req any](fn func(*leader.Leader, context.Context, workload.PeerID, *Req) error) func(*leader.Leader, context.Context, workload.PeerID, *Req) (*wire.Ack, error) {
	return func(l *leader.Leader, ctx context.Context, from workload.PeerID, req *Req) (*wire.Ack, error) {
		return &wire.Ack{}, fn(l, ctx, from, req)
	}
}

// serve registers every protocol that this node speaks.
func (n *Node) serve(h mesh.Server) {
	w := n.worker
	mesh.HandleTyped(h, wire.ProtoHold, wire.MaxBulk, n.handleHold)
	mesh.HandleTyped(h, wire.ProtoWhole, wire.MaxSmall, n.handleWhole)
	h.HandleBulk(wire.ProtoChunk, wire.MaxSmall, n.handleChunk, blob.Recycle)
	mesh.HandleTyped(h, wire.ProtoOffer, wire.MaxSmall, n.handleOffer)
	mesh.HandleTyped(h, wire.ProtoSuited, wire.MaxSmall, n.handleSuited)
	mesh.HandleTyped(h, wire.ProtoMember, wire.MaxSmall, n.handleMember)
	mesh.HandleTyped(h, wire.ProtoOperator, wire.MaxSmall, n.handleOperator)

	mesh.HandleTyped(h, wire.ProtoCall, wire.MaxSmall, w.HandleCall)
	mesh.HandleTyped(h, wire.ProtoRelease, wire.MaxSmall, w.HandleRelease)
	mesh.HandleTyped(h, wire.ProtoAward, wire.MaxBulk, w.HandleAward)
	mesh.HandleTyped(h, wire.ProtoHalt, wire.MaxBulk, w.HandleHalt)

	mesh.HandleTyped(h, wire.ProtoUnseal, wire.MaxBulk, n.handleUnseal)
	mesh.HandleTyped(h, wire.ProtoShare, wire.MaxBulk, n.handleShare)

	mesh.HandleTyped(h, wire.ProtoLive, wire.MaxSmall, w.HandleLive)
	mesh.HandleTyped(h, wire.ProtoAudit, wire.MaxSmall, n.handleAudit)
	mesh.HandleTyped(h, wire.ProtoWitness, wire.MaxSmall, n.handleWitness)
	mesh.HandleTyped(h, wire.ProtoCountersign, wire.MaxBulk, n.handleCountersign)
	mesh.HandleTyped(h, wire.ProtoDraw, wire.MaxSmall, n.handleDraw)
	mesh.HandleTyped(h, wire.ProtoCommitted, wire.MaxSmall, n.handleCommitted)
	mesh.HandleTyped(h, wire.ProtoPicture, wire.MaxSmall, n.handlePicture)

	led(n, h, wire.ProtoSubmit, wire.MaxBulk, (*leader.Leader).HandleSubmit)
	led(n, h, wire.ProtoTake, wire.MaxSmall, (*leader.Leader).HandleTake)
	led(n, h, wire.ProtoReturn, wire.MaxSmall, acked((*leader.Leader).HandleReturn))
	led(n, h, wire.ProtoClose, wire.MaxBulk, (*leader.Leader).HandleClose)
	led(n, h, wire.ProtoDone, wire.MaxSmall, acked((*leader.Leader).HandleDone))
	led(n, h, wire.ProtoRenew, wire.MaxBulk, (*leader.Leader).HandleRenew)
	led(n, h, wire.ProtoStop, wire.MaxSmall, acked(func(l *leader.Leader, ctx context.Context, from workload.PeerID, m *wire.StopMsg) error {
		return l.HandleStop(ctx, from, m)
	}))
	led(n, h, wire.ProtoQuota, wire.MaxSmall, acked((*leader.Leader).HandleQuota))
	led(n, h, wire.ProtoQuery, wire.MaxSmall, func(l *leader.Leader, ctx context.Context, from workload.PeerID, m *wire.QueryMsg) (*wire.QueryAnswer, error) {
		return l.HandleQuery(ctx, from, m)
	})
	h.HandleStream(wire.ProtoRaft, n.serveRaft)
	h.HandleStream(wire.ProtoAttest, n.attestor.Serve)
	h.HandleStream(wire.ProtoAttach, n.serveAttach)
}
