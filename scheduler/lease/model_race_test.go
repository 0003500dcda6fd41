//go:build race

package lease

// slowBuild shortens the model under the race detector, which it gives nothing to find.
const slowBuild = true
