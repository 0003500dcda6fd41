package workload

// PaidMs is the time in ms that is paid for: that of the slot; of spare work,
// which may wait for long, only what it ran, as CPU time.
func PaidMs(r *Resources, u Usage) int64 {
	if r.Class != Spare {
		return u.WallMs
	}
	return min(u.WallMs, u.CPUMs/int64(max(r.CPUs, 1)))
}
