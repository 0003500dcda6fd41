package ending

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/runner"
)

// Turns lets one attempt of a session run at a time and passes on what is
// asked of the running one. The zero value is ready.
type Turns struct {
	mu      sync.Mutex
	current *Ending        // nil when nothing runs
	early   *time.Duration // the grace of an Interrupt that came when nothing ran
	closed  bool
	left    chan struct{} // closed when the current attempt has left
}

// Enter starts an attempt's turn. The error wraps runner.ErrClosed after Close.
func (t *Turns) Enter() (*Ending, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, fmt.Errorf("run: session: %w", runner.ErrClosed)
	}
	if t.current != nil {
		return nil, errors.New("run: an attempt runs already")
	}
	t.current, t.left = &Ending{}, make(chan struct{})
	if t.early != nil {
		t.current.Interrupt(*t.early)
		t.early = nil
	}
	return t.current, nil
}

// Leave ends the turn.
func (t *Turns) Leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current.Done()
	t.current = nil
	close(t.left)
}

// Interrupt interrupts the running attempt, or else the next one: whoever asks
// cannot know that it is just about to begin.
func (t *Turns) Interrupt(grace time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current == nil {
		t.early = &grace
		return
	}
	t.current.Interrupt(grace)
}

// Kill kills the running attempt, if there is one.
func (t *Turns) Kill() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current != nil {
		t.current.Kill(workload.StoppedExit, "")
	}
}

// Close kills the running attempt, waits until it has left, and lets no other
// begin.
func (t *Turns) Close() {
	t.mu.Lock()
	t.closed = true
	current, left := t.current, t.left
	t.mu.Unlock()
	if current != nil {
		current.Kill(workload.StoppedExit, "")
		<-left
	}
}
