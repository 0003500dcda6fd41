//go:build !perrin_unsigned

package main

import "context"

// signedPlacement needs a build that can leave signatures out.
func signedPlacement(_ context.Context, b *bench) error {
	b.out.note("what signatures cost is measured with -tags perrin_unsigned, as `make bench` does")
	return nil
}
