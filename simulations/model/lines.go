package model

import "math/bits"

const aSecond = 1000 * millisecond

// lines are a peer's own line, out and in.
type lines struct{ up, down line }

// line is a queue of so many bytes a second, in the order in which things come. All
// times are ns.
type line struct {
	rate int64
	busy int64 // until when all that came is through,
	said int64 // and of messages alone
}

// takes is how long the line takes for so many bytes, at most 2^36.
func (l *line) takes(bytes int64) int64 {
	hi, lo := bits.Mul64(uint64(bytes), uint64(aSecond))
	q, _ := bits.Div64(hi, lo, uint64(l.rate))
	return int64(q)
}

// content is when bytes of content that come now are through: after all else.
func (l *line) content(now, bytes int64) int64 {
	l.busy = max(l.busy, now) + l.takes(bytes)
	return l.busy
}

// message is when a message that comes now is through: after other messages, and
// after at most so much of content, with which it shares the line.
func (l *line) message(now, bytes, buffer int64) int64 {
	takes := l.takes(bytes)
	l.said = max(now, l.said, min(l.busy, now+buffer)) + takes
	l.busy = max(l.busy, now) + takes
	return l.said
}

// drawLines draws how much the line of a peer carries.
func (w *World) drawLines(i int32) {
	b := w.sc.Network.Bandwidth
	if b == nil {
		return
	}
	if w.lines == nil {
		w.lines = make([]lines, len(w.peers))
	}
	s := w.seed.Stream(uint32(i), forLines)
	w.lines[i].up.rate, w.lines[i].down.rate = max(b.Up.Draw(&s), 1<<10), max(b.Down.Draw(&s), 1<<10)
}

// sizeOf is what a message takes on a line, with the headers that were measured.
func (w *World) sizeOf(m *message) int64 {
	return msgBytes[m.kind] + int64(w.calibration.MessageBytes)
}
