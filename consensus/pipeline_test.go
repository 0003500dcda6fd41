package consensus

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// full is a pipeline whose sends wait until somebody reads the answers before.
type full struct {
	answers chan raft.AppendFuture
	over    chan struct{}
}

func (f *full) AppendEntries(*raft.AppendEntriesRequest, *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	<-f.over
	return nil, raft.ErrPipelineShutdown
}
func (f *full) Consumer() <-chan raft.AppendFuture { return f.answers }
func (f *full) Close() error                       { close(f.over); return nil }

// answer is what a follower said.
type answer raft.AppendEntriesResponse

func (a *answer) Error() error                          { return nil }
func (a *answer) Start() time.Time                      { return time.Time{} }
func (a *answer) Request() *raft.AppendEntriesRequest   { return &raft.AppendEntriesRequest{Term: 3} }
func (a *answer) Response() *raft.AppendEntriesResponse { return (*raft.AppendEntriesResponse)(a) }

// TestAPipelineEndsWithTheFirstRefusal: what is sent after it does not wait for
// answers that nobody reads any more.
func TestAPipelineEndsWithTheFirstRefusal(t *testing.T) {
	for name, no := range map[string]*answer{"no success": {Term: 3}, "a newer term": {Term: 4, Success: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner := &full{answers: make(chan raft.AppendFuture), over: make(chan struct{})}
				p := newPipeline(inner, func(*raft.AppendEntriesRequest) {})
				for _, said := range []*answer{{Term: 3, Success: true}, no} {
					go func() { inner.answers <- said }()
					if got := <-p.Consumer(); got != raft.AppendFuture(said) {
						t.Fatalf("the library was told %+v, want %+v", got, said)
					}
				}
				if _, err := p.AppendEntries(&raft.AppendEntriesRequest{}, nil); err == nil { // a bubble panics where it waits for ever
					t.Error("what is sent after a refusal is on its way")
				}
			})
		})
	}
}

// TestAPipelineThatIsClosedLeavesNothing behind: a bubble panics where it does.
func TestAPipelineThatIsClosedLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &full{answers: make(chan raft.AppendFuture), over: make(chan struct{})}
		p := newPipeline(inner, func(*raft.AppendEntriesRequest) {})
		inner.answers <- &answer{Success: true, Term: 3} // taken, and nobody wants it
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}
