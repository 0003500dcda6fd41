package capacity

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/perrin-mesh/perrin/workload"
)

// MaxCPUID is the highest number of a logical CPU, or of a NUMA node, that is
// believed; Linux has at most 8192 CPUs in any configuration that ships.
const MaxCPUID = 1<<16 - 1

// ParseCPUs parses the kernel's list format ("0-3,8,10-11", "" for none; see
// cpuset(7), without strides) into ascending numbers, each once. It refuses
// numbers over MaxCPUID and lists of more than workload.MaxCPUs numbers, with an
// error that wraps ErrMalformed.
func ParseCPUs(s string) ([]int, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return nil, nil
	}
	var cpus []int
	for part := range strings.SplitSeq(s, ",") {
		first, last, err := parseSpan(part)
		if err != nil {
			return nil, err
		}
		if len(cpus)+last-first+1 > workload.MaxCPUs {
			return nil, fmt.Errorf("%w: CPU list %.40q names more than %d", ErrMalformed, s, workload.MaxCPUs)
		}
		for cpu := first; cpu <= last; cpu++ {
			cpus = append(cpus, cpu)
		}
	}
	slices.Sort(cpus)
	return slices.Compact(cpus), nil
}

func parseSpan(part string) (first, last int, err error) {
	from, to, isSpan := strings.Cut(strings.TrimSpace(part), "-")
	if !isSpan {
		to = from
	}
	low, errLow := strconv.ParseUint(from, 10, 32)
	high, errHigh := strconv.ParseUint(to, 10, 32)
	if errLow != nil || errHigh != nil || low > high || high > MaxCPUID {
		return 0, 0, fmt.Errorf("%w: %.40q in a CPU list; want N or N-M with N <= M <= %d", ErrMalformed, part, MaxCPUID)
	}
	return int(low), int(high), nil
}

// FormatCPUs writes ascending CPU numbers in the kernel's list format, as a
// cpuset takes them.
func FormatCPUs(cpus []int) string {
	var b strings.Builder
	for i := 0; i < len(cpus); {
		end := i + 1
		for end < len(cpus) && cpus[end] == cpus[end-1]+1 {
			end++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(cpus[i]))
		if end-i > 1 {
			b.WriteByte('-')
			b.WriteString(strconv.Itoa(cpus[end-1]))
		}
		i = end
	}
	return b.String()
}
