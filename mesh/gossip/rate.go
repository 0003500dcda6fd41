package gossip

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/perrin-mesh/perrin/workload"
)

// maxAuthors bounds the authors whose rate is remembered.
const maxAuthors = 8192

// rates is a token bucket for each author.
type rates struct {
	limit rate.Limit
	burst int

	mu  sync.Mutex
	all map[workload.PeerID]*rate.Limiter
}

func newRates(limit float64, burst int) *rates {
	return &rates{limit: rate.Limit(limit), burst: burst, all: map[workload.PeerID]*rate.Limiter{}}
}

// allow takes one token of the author's.
func (r *rates) allow(author workload.PeerID, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	l, ok := r.all[author]
	if !ok {
		r.forget(now)
		if len(r.all) >= maxAuthors {
			return false
		}
		l = rate.NewLimiter(r.limit, r.burst)
		r.all[author] = l
	}
	return l.AllowN(now, 1)
}

// forget drops the authors whose bucket is full again, when there are many:
// a new bucket is full as well.
func (r *rates) forget(now time.Time) {
	if len(r.all) < maxAuthors {
		return
	}
	for id, l := range r.all {
		if l.TokensAt(now) >= float64(r.burst) {
			delete(r.all, id)
		}
	}
}
