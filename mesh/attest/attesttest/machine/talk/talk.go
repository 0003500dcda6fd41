// Package talk is what a test says to the program in a machine that it booted,
// and hears: JSON, a value at a time, over a serial line.
package talk

// Port is the serial line, as the machine's kernel calls it.
const Port = "/dev/ttyS1"

// Ready is what the machine's program says first, on a line of its own.
const Ready = "ready\n"

// Ask is one question; one field is set.
type Ask struct {
	Binding    []byte `json:"binding,omitempty"` // evidence for this, canonically encoded
	Credential []byte `json:"credential,omitempty"`
	Encrypted  []byte `json:"encrypted,omitempty"` // with Credential: open them
	Run        string `json:"run,omitempty"`       // a program to run to its end
	Violate    string `json:"violate,omitempty"`   // a file to read while it is open for writing
}

// Answer answers one question.
type Answer struct {
	Evidence []byte `json:"evidence,omitempty"`
	Secret   []byte `json:"secret,omitempty"`
	Err      string `json:"err,omitempty"`
}
