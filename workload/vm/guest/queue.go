package guest

import (
	"io"
	"sync"
)

// queue carries bytes from the port to one slow reader, so that the port never
// waits for a program. It is as long as the node makes it: stdin by its window,
// answers of the unit socket by what the program asked for.
type queue struct {
	mu     sync.Mutex
	filled sync.Cond
	chunks [][]byte
	ended  bool
}

func newQueue() *queue {
	q := &queue{}
	q.filled.L = &q.mu
	return q
}

func (q *queue) put(b []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.ended {
		q.chunks = append(q.chunks, b)
		q.filled.Signal()
	}
}

// end says that nothing follows; what is there can still be had.
func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.filled.Broadcast()
}

// next waits for a chunk; io.EOF after the last.
func (q *queue) next() ([]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.chunks) == 0 && !q.ended {
		q.filled.Wait()
	}
	if len(q.chunks) == 0 {
		return nil, io.EOF
	}
	b := q.chunks[0]
	q.chunks = q.chunks[1:]
	return b, nil
}

// drainTo writes every chunk to w and tells done how long each was. When w
// fails, the rest is dropped.
func (q *queue) drainTo(w io.WriteCloser, done func(n int)) {
	defer w.Close()
	var failed error
	for {
		b, err := q.next()
		if err != nil {
			return
		}
		if failed == nil {
			_, failed = w.Write(b)
		}
		if done != nil {
			done(len(b))
		}
	}
}
