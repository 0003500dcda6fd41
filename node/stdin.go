package node

import (
	"errors"
	"io"
	"sync"

	"github.com/perrin-mesh/perrin/node/worker"
)

// maxReplay is how much of a streamed stdin is kept, in bytes, so that another
// attempt can be fed from the beginning. A longer stream is fed to one attempt
// only.
const maxReplay = 64 << 20

// errNotKept is returned when an attempt would need what was not kept.
var errNotKept = errors.New("stdin was too long to be kept for another attempt")

// stdinReplay reads an owner's stdin once and can feed it, from its beginning, to
// every attempt of the task. One attempt is fed at a time.
type stdinReplay struct {
	mu    sync.Mutex
	base  int64 // of data in the stream: what is before is gone
	data  []byte
	fed   int64 // how far the present attempt is
	ended bool
	moved chan struct{} // closed and replaced at every change
}

func newStdinReplay(r io.Reader) *stdinReplay {
	p := &stdinReplay{moved: make(chan struct{})}
	go p.read(r)
	return p
}

// read takes stdin in. When maxReplay bytes are kept it waits until the attempt
// has taken them, and then lets go of the oldest.
func (p *stdinReplay) read(r io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		p.mu.Lock()
		p.data = append(p.data, buf[:n]...)
		p.ended = err != nil
		p.wake()
		p.mu.Unlock()
		if err != nil {
			return
		}
		p.room()
	}
}

func (p *stdinReplay) wake() {
	close(p.moved)
	p.moved = make(chan struct{})
}

// room waits until there is room for more, and makes it.
func (p *stdinReplay) room() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.data) > maxReplay && p.fed < p.base+int64(len(p.data)) {
		moved := p.moved
		p.mu.Unlock()
		<-moved
		p.mu.Lock()
	}
	if over := len(p.data) - maxReplay; over > 0 {
		p.data = append([]byte(nil), p.data[over:]...)
		p.base += int64(over)
	}
}

// feed sends all of it to an attempt's stream, until done is closed.
func (p *stdinReplay) feed(w io.Writer, done <-chan struct{}) error {
	var at int64
	for {
		p.mu.Lock()
		if at < p.base {
			p.mu.Unlock()
			return errNotKept
		}
		p.fed = at
		rest := p.data[at-p.base:]
		chunk := append([]byte(nil), rest[:min(len(rest), worker.MaxFrame)]...)
		ended, moved := p.ended, p.moved
		p.mu.Unlock()
		switch {
		case len(chunk) > 0:
			if err := worker.WriteFrame(w, worker.FrameStdin, chunk); err != nil {
				return nil // the attempt is over
			}
			at += int64(len(chunk))
			p.mu.Lock()
			p.fed = at
			p.wake()
			p.mu.Unlock()
		case ended:
			return worker.WriteFrame(w, worker.FrameStdinEnd, nil)
		default:
			select {
			case <-moved:
			case <-done:
				return nil
			}
		}
	}
}
