package wire

import (
	"context"
	"errors"
	"fmt"

	"github.com/perrin-mesh/perrin/workload"
)

// Kind is why a request failed. The list is closed, and a kind is an error
// itself, so that errors.Is(err, wire.Busy) holds on the side that answered
// and on the side that asked.
type Kind string

// The kinds of failure that cross the wire.
const (
	NotLeader    Kind = "not-leader"   // ask the peer that the error names, if it names one
	Refused      Kind = "refused"      // understood, and not done
	NotFound     Kind = "not-found"    // no such thing, or no such protocol
	Busy         Kind = "busy"         // a limit of concurrency or rate; try again later
	Full         Kind = "full"         // a stated bound is reached; once something has ended there is room again
	NoSpace      Kind = "no-space"     // a disk that has to keep it is full; nothing was done
	TooLarge     Kind = "too-large"    // a request or an answer over its limit
	Malformed    Kind = "malformed"    // not a valid message
	Version      Kind = "version"      // the peer speaks another version
	Internal     Kind = "internal"     // the answering side failed; its log says how
	Expired      Kind = "expired"      // a certificate, token or lease that is over
	Unauthorized Kind = "unauthorized" // not admitted, or without the right
	NotYours     Kind = "not-yours"    // a workload of somebody else, and no token for it
	Unavailable  Kind = "unavailable"  // not reached, or no answer in time
	Exists       Kind = "exists"       // it is there already
)

// Error returns the kind's name.
func (k Kind) Error() string { return string(k) }

func (k Kind) known() bool {
	switch k {
	case NoSpace, NotLeader, Refused, NotFound, Busy, Full, TooLarge, Malformed, Version, Internal,
		Expired, Unauthorized, NotYours, Unavailable, Exists:
		return true
	}
	return false
}

// maxDetail bounds Error.Detail in bytes; it is also in the field's tag.
const maxDetail = 512

// Error is a failure as it crosses the wire: a kind for the program and a
// sentence for people. Leader is set on NotLeader when the leader is known.
type Error struct {
	Kind   Kind            `cbor:"1,keyasint" json:"kind" max:"32"`
	Detail string          `cbor:"2,keyasint,omitempty" json:"detail,omitempty" max:"512"`
	Leader workload.PeerID `cbor:"3,keyasint" json:"leader"`
}

// Errorf makes an error of a kind; the detail is cut to 512 bytes.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Detail: cut(fmt.Sprintf(format, args...))}
}

// Error returns the sentence and the kind.
func (e *Error) Error() string {
	if e.Detail == "" {
		return string(e.Kind)
	}
	return fmt.Sprintf("%s: %s", e.Kind, e.Detail)
}

// Is reports whether target is the error's kind.
func (e *Error) Is(target error) bool {
	k, ok := target.(Kind)
	return ok && k == e.Kind
}

// FromError returns what of err may cross the wire: an *Error or a Kind found
// in its chain, with its text; a malformed message; a deadline as Unavailable.
// Anything else becomes Internal without its text, which may name what a peer
// has no business knowing.
func FromError(err error) *Error {
	var e *Error
	var k Kind
	switch {
	case errors.As(err, &e):
		return &Error{Kind: e.Kind, Detail: cut(e.Detail), Leader: e.Leader}
	case errors.As(err, &k):
		return Errorf(k, "%s", err)
	case errors.Is(err, ErrMalformed):
		return Errorf(Malformed, "%s", err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return Errorf(Unavailable, "not done in time")
	}
	return Errorf(Internal, "the node failed to answer; see its log")
}

// DecodeError decodes an Error from the wire. A kind that this version does
// not know becomes Internal.
func DecodeError(b []byte) *Error {
	var e Error
	if err := Unmarshal(b, &e); err != nil {
		return Errorf(Malformed, "%s", err)
	}
	if !e.Kind.known() {
		e.Kind = Internal
	}
	return &e
}

func cut(s string) string {
	if len(s) > maxDetail {
		return s[:maxDetail]
	}
	return s
}
