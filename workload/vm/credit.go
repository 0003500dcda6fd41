package vm

import "sync"

// credit is how much more the guest takes. Its methods are safe for concurrent use.
type credit struct {
	mu     sync.Mutex
	more   sync.Cond
	left   int64
	window int64
	closed bool
}

func newCredit(window int64) *credit {
	c := &credit{left: window, window: window}
	c.more.L = &c.mu
	return c
}

// add gives n back; a guest cannot widen its window.
func (c *credit) add(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = min(c.left+n, c.window)
	c.more.Broadcast()
}

// take waits for n, which is at most the window, and reports false once closed.
func (c *credit) take(n int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.left < n && !c.closed {
		c.more.Wait()
	}
	c.left -= n
	return !c.closed
}

func (c *credit) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.more.Broadcast()
}
