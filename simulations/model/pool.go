package model

// pool keeps values by number and uses the numbers again, so that events can name
// them in 32 bits and what is over leaves no garbage.
type pool[T any] struct {
	all  []T
	free []int32
}

// keep stores a value and returns its number.
func (p *pool[T]) keep(v T) int32 {
	if n := len(p.free); n > 0 {
		i := p.free[n-1]
		p.free = p.free[:n-1]
		p.all[i] = v
		return i
	}
	p.all = append(p.all, v)
	return int32(len(p.all) - 1)
}

// take returns a value and forgets it.
func (p *pool[T]) take(i int32) T {
	v := p.all[i]
	var none T
	p.all[i] = none
	p.free = append(p.free, i)
	return v
}
