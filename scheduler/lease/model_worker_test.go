package lease

import "errors"

// worker is a node that runs slots.
type worker struct {
	*host
	index  int
	lease  *Worker
	bids   map[int]int64 // by call: when the bid was sent, or used
	runs   []*attempt
	leader int // the voter that it sends RENEW to
	quiet  int // RENEWs in a row without an answer
}

const (
	modelRuns = 3  // attempts at once
	used      = -1 // a bid that was awarded or refused: a call is answered once
)

func newModelWorker(h *host, index int) *worker {
	k := &worker{host: h, index: index, lease: NewWorker(h.w.cfg), bids: map[int]int64{}}
	h.after(h.w.between(0, h.w.cfg.Renew()), k.tick)
	return k
}

// running returns the attempts that are not over.
func (k *worker) running() []*attempt {
	alive := k.runs[:0]
	for _, a := range k.runs {
		if !a.dead {
			alive = append(alive, a)
		}
	}
	k.runs = alive
	return alive
}

func (k *worker) called(l *leader, slot, call int) {
	_, before := k.bids[call]
	if before && k.w.cfg.off&bidOnce == 0 || len(k.running()) >= modelRuns {
		return
	}
	k.bids[call] = k.clock()
	k.send(l.host, func() { l.bid(k, slot, call) })
}

// awarded starts a slot, or refuses it for good: the bid is used up either way.
func (k *worker) awarded(l *leader, slot, call int, epoch uint64, grant int64) {
	for _, a := range k.running() {
		if a.call == call {
			if !a.doomed {
				k.send(l.host, func() { l.told(k, slot, call, true) })
			}
			return // what is being killed is not refused before it is dead
		}
	}
	sent := k.bids[call]
	k.bids[call] = used
	if sent == used || sent == 0 {
		k.send(l.host, func() { l.told(k, slot, call, false) })
		return
	}
	end, err := k.lease.Award(k.clock(), sent, grant, epoch)
	if err != nil {
		if errors.Is(err, ErrLate) {
			k.w.tally.Late++
		}
		k.send(l.host, func() { l.told(k, slot, call, false) })
		return
	}
	k.stopBefore(epoch)
	a := &attempt{host: k.host, slot: slot, call: call, epoch: epoch, deadline: end}
	k.runs = append(k.runs, a)
	k.w.start(a)
	k.leader = l.index
	k.send(l.host, func() { l.told(k, slot, call, true) })
}

// tick sends RENEW every third of TTL while anything runs.
func (k *worker) tick() {
	if len(k.running()) > 0 {
		if k.quiet++; k.quiet > 2 {
			k.leader = k.w.rng.IntN(len(k.w.voters))
		}
		k.renew()
	}
	k.after(k.w.cfg.Renew(), k.tick)
}

func (k *worker) renew() {
	sent, to := k.clock(), k.w.voters[k.leader]
	var running []int
	for _, a := range k.running() {
		running = append(running, a.call)
	}
	k.w.tally.Renewals++
	k.send(to.host, func() { to.renew(k, sent, running) })
}

func (k *worker) redirected(leader int) {
	if k.leader != leader && k.quiet < 8 {
		k.leader = leader
		k.renew()
	}
}

func (k *worker) renewed(sent, grant int64, epoch uint64) {
	k.quiet = 0
	end, lost := k.lease.Renewed(k.clock(), sent, grant, epoch)
	if lost {
		k.stopBefore(epoch)
	}
	for _, a := range k.running() {
		if a.epoch == epoch {
			a.deadline = max(a.deadline, end)
		}
	}
}

// stopBefore kills what runs in epochs that are over.
func (k *worker) stopBefore(epoch uint64) {
	for _, a := range k.running() {
		if a.epoch < epoch {
			k.w.kill(a)
		}
	}
}
