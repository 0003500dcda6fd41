package packetnet

import (
	"net/netip"
	"time"
)

// packet is one on its way.
type packet struct {
	at   time.Duration // when it arrives, on the network's clock
	seq  uint64
	from *Conn
	to   netip.AddrPort
	data []byte
}

func (p *packet) before(q *packet) bool { return p.at < q.at || p.at == q.at && p.seq < q.seq }

// queue is a binary heap: the packet that arrives first is heap[0], and of
// those that arrive together the one that was sent first.
type queue struct {
	heap []packet
	seq  uint64
}

// push adds a packet and reports whether it is now the first.
func (q *queue) push(p packet) bool {
	q.seq++
	p.seq = q.seq
	h := append(q.heap, p)
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !h[i].before(&h[up]) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
	q.heap = h
	return i == 0
}

// pop takes the first packet out; there must be one.
func (q *queue) pop() packet {
	h := q.heap
	first, last := h[0], len(h)-1
	h[0], h[last] = h[last], packet{}
	q.heap = h[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if h[child].before(&h[least]) {
				least = child
			}
		}
		if least == i {
			return first
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}
