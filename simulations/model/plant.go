package model

// Plant is a bug that is put in on purpose: a rule that is switched off. Who says
// that it finds bugs finds these.
type Plant string

// The plants. With LeaseIgnored a worker goes on when its lease is over; with
// AckEarly a leader gives an ID before a majority has the workload, with SaidOnce a worker
// does not repeat what its leader never answered.
const (
	LeaseIgnored Plant = "lease-ignored"
	AckEarly     Plant = "ack-early"
	SaidOnce     Plant = "said-once"
)

// Plants lists them.
var Plants = []Plant{LeaseIgnored, AckEarly, SaidOnce}

// Plant switches a rule off. It is for before the first Step.
func (w *World) Plant(p Plant) { w.planted = p }
