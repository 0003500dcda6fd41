//go:build !perrin_unsigned

package workload

// Unsigned reports whether this build leaves signatures of scheduling out just
// now, for a bench that measures what they cost. No build for use does.
func Unsigned() bool { return false }

// unsigned is Unsigned for one domain.
func unsigned(Domain) bool { return false }
