package model

import (
	"math"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestTheCalibrationIsWhatItsSamplesSay fits the samples in the file again, and
// wants what they sent within 15 %.
func TestTheCalibrationIsWhatItsSamplesSay(t *testing.T) {
	c := Measured()
	if c.Perrin == "" || c.Command == "" || c.Machine == "" || c.Date == "" || len(c.Measured) < 5 {
		t.Fatalf("it does not say where it comes from: %+v", c)
	}
	changes, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	if release := regexp.MustCompile(`^v?[0-9]+(\.[0-9]+)*$`).FindString(c.Perrin); release != "" && !strings.Contains(string(changes), "\n## "+release) {
		t.Errorf("it was made with %s, which CHANGELOG.md does not have", release)
	}
	var again Calibration
	if err := again.Fit(c.Measured); err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string][2]float64{
		"idle messages": {c.IdleMessages, again.IdleMessages}, "idle bytes": {c.IdleBytes, again.IdleBytes},
		"bytes of a message": {c.MessageBytes, again.MessageBytes}, "busy bytes": {c.BusyBytes, again.BusyBytes},
	} {
		if !(v[0] > 0) || math.Abs(v[0]/v[1]-1) > 1e-9 {
			t.Errorf("%s: the file has %g, its samples come to %g", name, v[0], v[1])
		}
	}
	for _, s := range c.Measured {
		messages, bytes := c.all(s.Model)
		if m, b := messages/s.Stack.Messages, bytes/s.Stack.Bytes; math.Abs(m-1) > 0.15 || math.Abs(b-1) > 0.15 {
			t.Errorf("%d peers, %d slots: %.3f times the messages, %.3f times the bytes", s.Peers, s.Placed, m, b)
		}
	}
	if err := again.Fit(c.Measured[:1]); err == nil {
		t.Error("one sample is enough")
	}
}
