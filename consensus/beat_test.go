package consensus

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// TestHeartbeatsLeaveTogether: three followers whose heartbeats come due at
// moments of their own are soon served at the same ones, and none waits for long.
func TestHeartbeatsLeaveTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBeat(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		type sent struct {
			id raft.ServerID
			at time.Duration
		}
		all := make(chan sent, 1000)
		var followers sync.WaitGroup
		for id, first := range map[raft.ServerID]time.Duration{"a": 10, "b": 77, "c": 160} {
			followers.Go(func() {
				for due := time.After(first * time.Millisecond); ctx.Err() == nil; due = time.After(100*time.Millisecond + first*time.Millisecond/2) {
					<-due
					b.wait(ctx, id, id == "c")
					all <- sent{id, time.Since(b.zero)}
				}
			})
		}
		followers.Wait()
		close(all)
		last, moments, count := map[raft.ServerID]time.Duration{}, map[time.Duration]int{}, map[raft.ServerID]int{}
		for s := range all {
			if before, ok := last[s.id]; ok && s.at-before > b.most && (s.id != "c" || s.at-before > 2*b.most) {
				t.Errorf("%s waited %s", s.id, s.at-before)
			}
			last[s.id] = s.at
			moments[s.at]++
			count[s.id]++
		}
		if len(moments) > 40 {
			t.Errorf("heartbeats left at %d moments of 10 s, want about 30", len(moments))
		}
		if count["c"] > 20 || count["a"] < 25 {
			t.Errorf("heartbeats in 10 s: %v, want about 30, and 15 to c, which is at rest", count)
		}
	})
}

// TestAHeartbeatThatIsNeededDoesNotWait, nor one of a group with short timeouts.
func TestAHeartbeatThatIsNeededDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took := func(b *beat) time.Duration {
			began := time.Now()
			b.wait(t.Context(), "a", false)
			return time.Since(began)
		}
		b := newBeat(time.Second)
		<-time.After(b.late)
		b.last["a"] = time.Now()
		if d := took(b); d != b.every-b.late {
			t.Errorf("an ordinary one waits %s", d)
		}
		<-time.After(b.late)
		done := make(chan time.Duration)
		go func() { done <- took(b) }()
		synctest.Wait()
		b.rush()
		if d := <-done; d != 0 {
			t.Errorf("it leaves %s after somebody needs it", d)
		}
		if d := took(b); d != 0 {
			t.Errorf("the next one waits %s", d)
		}
		b.calm()
		if d := took(newBeat(100 * time.Millisecond)); d != 0 {
			t.Errorf("one of a short timeout waits %s", d)
		}
	})
}
