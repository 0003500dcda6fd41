//go:build !race

package lease

const slowBuild = false
