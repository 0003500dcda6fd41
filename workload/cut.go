package workload

import (
	"fmt"
	"strings"
)

// Cut returns at most n bytes of s as valid UTF-8: what a message may carry.
func Cut(s string, n int) string {
	return strings.ToValidUTF8(s[:min(len(s), n)], "")
}

// Counted is "1 task" or "2 tasks".
func Counted[N ~int | ~uint32](n N, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
