package workload

import "strings"

// Cut returns at most n bytes of s as valid UTF-8: what a message may carry.
func Cut(s string, n int) string {
	return strings.ToValidUTF8(s[:min(len(s), n)], "")
}
