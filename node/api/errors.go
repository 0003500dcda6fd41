package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// The closed list of kinds of an Error. They cross the socket, so that
// KindOf answers the same on both sides.
const (
	Invalid      = "invalid"      // the request cannot be right, whatever the mesh does
	NotFound     = "not-found"    // nothing has that ID, name or digest
	Ambiguous    = "ambiguous"    // a prefix or a name that several workloads share
	Refused      = "refused"      // understood and not done: a rule or a quota forbids it
	Unavailable  = "unavailable"  // no daemon, no quorum, not ready; trying again may help
	Busy         = "busy"         // a stated bound is reached and nothing was done; trying again after a moment helps
	TooLarge     = "too-large"    // above a limit in bytes or elements
	Unauthorized = "unauthorized" // the socket or the mesh does not let this user in
	Exists       = "exists"       // there is one already
	Internal     = "internal"     // our own failure
)

// ErrNoDaemon is returned when nothing answers at a socket.
var ErrNoDaemon = errors.New("no daemon answers")

// statusOf maps kinds to HTTP status codes. Two kinds share 409; the kind in
// the body tells them apart.
var statusOf = map[string]int{
	Invalid:      http.StatusBadRequest,
	NotFound:     http.StatusNotFound,
	Ambiguous:    http.StatusConflict,
	Refused:      http.StatusUnprocessableEntity,
	Unavailable:  http.StatusServiceUnavailable,
	Busy:         http.StatusTooManyRequests,
	TooLarge:     http.StatusRequestEntityTooLarge,
	Unauthorized: http.StatusForbidden,
	Exists:       http.StatusConflict,
	Internal:     http.StatusInternalServerError,
}

// Errorf returns an Error of a kind without a hint.
func Errorf(kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// WithHint returns a copy of e that says what to do about it.
func (e *Error) WithHint(format string, args ...any) *Error {
	hinted := *e
	hinted.Hint = fmt.Sprintf(format, args...)
	return &hinted
}

// AsError returns err as an Error: itself, the one it wraps under the whole
// message, Unavailable for a context that ended, TooLarge for a body over its
// limit, and Internal for anything else. It returns nil for nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var own *Error
	var big *http.MaxBytesError
	switch {
	case errors.As(err, &own):
		return &Error{Kind: own.Kind, Message: err.Error(), Hint: own.Hint}
	case errors.As(err, &big):
		return Errorf(TooLarge, "the request is larger than %d bytes", big.Limit)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Errorf(Unavailable, "%s", err.Error())
	case errors.Is(err, ErrNoDaemon):
		return Errorf(Unavailable, "%s", err.Error())
	}
	return Errorf(Internal, "%s", err.Error())
}

// KindOf returns the kind of the Error that err is or wraps, Internal for any
// other error and "" for nil.
func KindOf(err error) string {
	if err == nil {
		return ""
	}
	return AsError(err).Kind
}
