package model

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"math"
)

// Calibration is what was measured of whole nodes and is added to what the model
// counts by itself, with where it comes from. `perrin sim calibrate` makes it.
type Calibration struct {
	// A peer that is up sends so much a second beside what the model sends for it:
	// gossip, DHT, keep-alives, heartbeats of Raft.
	IdleMessages float64 `json:"idle_messages"`
	IdleBytes    float64 `json:"idle_bytes"`
	// Each message of the model's takes so many bytes beside its own: packet headers.
	MessageBytes float64 `json:"message_bytes"`
	// Acknowledgements and what else comes with messages, which those share that come
	// together: a peer that is up sends at most so much of it a second, and half of
	// that at halfBusy messages a second.
	BusyBytes float64 `json:"busy_bytes"`

	Perrin   string   `json:"perrin"`  // version of the binary
	Command  string   `json:"command"` // that made it
	Machine  string   `json:"machine"`
	Date     string   `json:"date"`
	Measured []Sample `json:"measured"`
}

// Sample is what one run of whole nodes sent, and the model of the same.
type Sample struct {
	Peers   int     `json:"peers"`
	Seconds float64 `json:"seconds"` // after the warm-up
	Placed  uint64  `json:"placed"`  // slots
	Stack   Traffic `json:"stack"`
	Model   Traffic `json:"model"` // as it counts by itself
}

// Traffic is what was sent after the warm-up.
type Traffic struct {
	Messages float64 `json:"messages"`
	Bytes    float64 `json:"bytes"`
	Peers    float64 `json:"peer_seconds"` // for which a peer was up
}

// Traffic returns what the model counts by itself.
func (w *World) Traffic() Traffic {
	return Traffic{Messages: float64(w.sentMsgs), Bytes: float64(w.sentBytes), Peers: w.upPeerTime / 1e9}
}

// Placed returns how many slots were awarded after the warm-up.
func (w *World) Placed() uint64 { return w.placedInTime }

// halfBusy is fixed, in messages of the model a second and peer; the rest is fitted.
const halfBusy = 10

// busy is for how many seconds, peers together, they would be as busy as can be.
func (t *Traffic) busy() float64 {
	if t.Messages == 0 {
		return 0
	}
	return t.Messages / (t.Messages/t.Peers + halfBusy)
}

// all is what whole nodes send where the model counts so much.
func (c *Calibration) all(t Traffic) (messages, bytes float64) {
	return t.Messages + float64(c.IdleMessages*t.Peers),
		t.Bytes + float64(c.IdleBytes*t.Peers) + float64(c.MessageBytes*t.Messages) + float64(c.BusyBytes*t.busy())
}

// Fit finds what the samples' models lack, by least squares of the relative errors.
// It needs samples of several loads and sizes.
func (c *Calibration) Fit(samples []Sample) error {
	var n [3][4]float64 // the normal equations of what a peer, a message and being busy add
	var mm, my float64
	for _, s := range samples {
		if s.Stack.Bytes == 0 || s.Stack.Messages == 0 {
			return fmt.Errorf("model: a sample of %d peers sent nothing", s.Peers)
		}
		row := [4]float64{s.Model.Peers, s.Model.Messages, s.Model.busy(), s.Stack.Bytes - s.Model.Bytes}
		for i := range n {
			for k := range row {
				n[i][k] += row[i] * row[k] / (s.Stack.Bytes * s.Stack.Bytes)
			}
		}
		m, z := s.Model.Peers/s.Stack.Messages, 1-s.Model.Messages/s.Stack.Messages
		mm, my = mm+m*m, my+m*z
	}
	x, ok := solve(n)
	if !ok {
		return fmt.Errorf("model: the samples do not differ enough to tell what a peer, a message and being busy add")
	}
	c.IdleBytes, c.MessageBytes, c.BusyBytes = x[0], x[1], x[2]
	c.IdleMessages, c.Measured = my/mm, samples
	return nil
}

// solve solves three equations by elimination; false when they do not tell.
func solve(a [3][4]float64) (x [3]float64, ok bool) {
	for i := range a {
		most := i
		for k := i + 1; k < len(a); k++ {
			if math.Abs(a[k][i]) > math.Abs(a[most][i]) {
				most = k
			}
		}
		a[i], a[most] = a[most], a[i]
		if !(math.Abs(a[i][i]) > 1e-12) {
			return x, false
		}
		for k := range a {
			if k == i {
				continue
			}
			by := a[k][i] / a[i][i]
			for col := range a[k] {
				a[k][col] -= by * a[i][col]
			}
		}
	}
	for i := range x {
		x[i] = a[i][3] / a[i][i]
	}
	return x, true
}

//go:embed calibration.json
var calibrationFile []byte

// Measured returns the calibration that every world has.
func Measured() Calibration {
	var c Calibration
	if err := json.Unmarshal(calibrationFile, &c); err != nil {
		panic(fmt.Sprintf("model: calibration.json: %v", err)) // it is in the binary, and a test reads it
	}
	return c
}
