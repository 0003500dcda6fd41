package model

// Leases are counted on each peer's own clock, which may run fast or slow. All other
// times are of the one clock of the run.

// clock is the time in ms that a peer's clock shows.
func (w *World) clock(i int32) int64 { return w.clockAt(i, w.now) }

// clockAt is what it shows at a time of the run.
func (w *World) clockAt(i int32, at int64) int64 {
	return ms(at + at/million*int64(w.peers[i].drift))
}

// whenClock is the time of the run at which a peer's clock shows so many ms, to
// within a few of them.
func (w *World) whenClock(i int32, shows int64) int64 {
	at, rate := nsAt(shows), million+int64(w.peers[i].drift)
	return at/rate*million + at%rate*million/rate
}
