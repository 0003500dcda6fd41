package consensus

import (
	"sync"

	"github.com/hashicorp/raft"
)

// pipeline is a library's pipeline to a follower whose messages are bounded, and that
// ends with the first answer that is no success. The library (v1.8.0) stops reading
// answers then, and may send once more before it sees that it has stopped: that
// send waits for ever for somebody to read the answer before it. The follower would be
// sent heartbeats and no entries for the rest of the term, and the instance never
// stop.
type pipeline struct {
	raft.AppendPipeline
	trim    func(*raft.AppendEntriesRequest)
	answers chan raft.AppendFuture
	closing sync.Once
	closed  chan struct{}
}

func newPipeline(p raft.AppendPipeline, trim func(*raft.AppendEntriesRequest)) *pipeline {
	out := &pipeline{AppendPipeline: p, trim: trim, answers: make(chan raft.AppendFuture), closed: make(chan struct{})}
	go out.forward()
	return out
}

// AppendEntries sends entries without waiting for the answer.
func (p *pipeline) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	p.trim(req)
	return p.AppendPipeline.AppendEntries(req, resp)
}

// Consumer returns the channel of the answers, in order.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// Close ends the pipeline, and with an error what waits to be sent.
func (p *pipeline) Close() error {
	p.closing.Do(func() { close(p.closed) })
	return p.AppendPipeline.Close()
}

// forward hands answers on until one is no success, or Close.
func (p *pipeline) forward() {
	for {
		select {
		case f := <-p.AppendPipeline.Consumer():
			last := !f.Response().Success || f.Response().Term > f.Request().Term
			select {
			case p.answers <- f:
			case <-p.closed:
				return
			}
			if last {
				_ = p.Close() // nobody reads what comes after
				return
			}
		case <-p.closed:
			return
		}
	}
}
