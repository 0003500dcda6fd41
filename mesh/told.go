package mesh

import (
	"maps"
	"sync"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

const (
	maxTold   = 256         // peers of which it is known what the log says
	tellAgain = time.Minute // how often the log says that a peer is refused
)

// told bounds what the log says of refusals: a peer that is refused comes again, and
// anybody can make up keys. The zero one is ready for use by any goroutine.
type told struct {
	mu    sync.Mutex
	peers map[workload.PeerID]*telling
}

type telling struct {
	at     time.Time // when the log said it last
	unsaid int       // refusals since
}

// again counts a refusal at now. It reports whether the log is to say it, and how many
// of the same peer it has left out since it said one.
func (l *told) again(who workload.PeerID, now time.Time) (unsaid int, say bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.peers == nil {
		l.peers = map[workload.PeerID]*telling{}
	}
	last := l.peers[who]
	if last != nil && now.Sub(last.at).Abs() < tellAgain {
		last.unsaid++
		return 0, false
	}
	if last == nil && len(l.peers) >= maxTold {
		maps.DeleteFunc(l.peers, func(_ workload.PeerID, t *telling) bool { return now.Sub(t.at).Abs() >= tellAgain })
		if len(l.peers) >= maxTold {
			return 0, false
		}
	}
	if last != nil {
		unsaid = last.unsaid
	}
	l.peers[who] = &telling{at: now}
	return unsaid, true
}
