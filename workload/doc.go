// Package workload holds the nouns of Perrin: what a user submits, what a node
// offers, what a cell decides and what comes back.
//
// Every other package speaks in these types, so they are named once, here, and
// this package imports only the standard library. The types carry three kinds
// of struct tag. `cbor` is the stable number of a field on the wire, in the
// ledger and on disk: never reuse one. `json` is its name in the local API and
// in --json output. `max` bounds every string, byte slice, list and map in
// bytes or elements: mesh/wire refuses a message that exceeds one, and a test
// refuses a field that lacks one.
//
// Time is milliseconds (of the Unix epoch where it is a point in time), money
// is integer micro-credits, memory is bytes.
package workload
