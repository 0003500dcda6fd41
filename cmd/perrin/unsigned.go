//go:build perrin_unsigned

package main

// A build with this tag can leave signatures out, to measure what they cost. It is
// for internal/bench; a perrin of it must not exist, so that this does not compile.
var _ int = "perrin cannot be built with the tag perrin_unsigned"
