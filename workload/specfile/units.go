package specfile

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

var sizeUnits = []struct {
	name string
	unit float64
}{
	{"B", 1}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"PB", 1e15},
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"PiB", 1 << 50},
	{"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"T", 1 << 40}, {"P", 1 << 50},
	{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"Ti", 1 << 40}, {"Pi", 1 << 50},
}

// ParseSize reads a number of bytes such as 256MiB, 1.5GiB, 2GB or 4096. K, M,
// G, T and P alone are powers of 1024, as everyone means them for memory.
func ParseSize(s string) (int64, error) {
	text := strings.TrimSpace(s)
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	suffix := text[len(digits):]
	digits = strings.TrimSpace(digits)
	if !beginsWithDigit(digits) || strings.Trim(digits, "0123456789.") != "" {
		return 0, fmt.Errorf("want a size such as 256MiB or 2GB, got %.40q", s)
	}
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return 0, fmt.Errorf("want a size such as 256MiB or 2GB, got %.40q", s)
	}
	unit, err := sizeUnit(suffix)
	if err != nil {
		return 0, err
	}
	if n*unit >= math.MaxInt64 {
		return 0, fmt.Errorf("%.40q is larger than any machine", s)
	}
	return int64(math.Round(n * unit)), nil
}

// ParseQuota reads an amount of CPU time, such as 20% of one thread or 1.5
// threads, in permille of a thread.
func ParseQuota(s string) (int32, error) {
	digits, percent := strings.CutSuffix(strings.TrimSpace(s), "%")
	n, err := strconv.ParseFloat(digits, 64)
	if percent {
		n /= 100
	}
	if err != nil || !beginsWithDigit(digits) || strings.Trim(digits, "0123456789.") != "" {
		return 0, fmt.Errorf("want CPU time such as 20%% or 1.5 (of threads), got %.40q", s)
	}
	if n < workload.MinQuota/1000.0 || n > workload.MaxCPUs {
		return 0, fmt.Errorf("want %d%% to %d threads of CPU time, got %.40q", workload.MinQuota/10, workload.MaxCPUs, s)
	}
	return int32(math.Round(n * 1000)), nil
}

func sizeUnit(suffix string) (float64, error) {
	if suffix == "" {
		return 1, nil
	}
	for _, u := range sizeUnits {
		if strings.EqualFold(u.name, suffix) {
			return u.unit, nil
		}
	}
	return 0, fmt.Errorf("%.20q is not a unit of size; want KiB, MiB, GiB or TiB (or kB, MB, GB, TB)", suffix)
}

// ParseDuration reads a time such as 90s, 10m, 1h30m, 250ms or 2d.
func ParseDuration(s string) (time.Duration, error) {
	text := strings.TrimSpace(s)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err == nil && n < 10000 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(text)
	_, numErr := strconv.ParseFloat(text, 64)
	if err == nil && numErr != nil && beginsWithDigit(strings.TrimPrefix(text, "-")) {
		return d, nil
	}
	if numErr == nil {
		return 0, fmt.Errorf("%.40q has no unit; write %.40ss for seconds or %.40sm for minutes", s, text, text)
	}
	return 0, fmt.Errorf("want a time such as 90s, 10m or 1h30m, got %.40q", s)
}

func beginsWithDigit(s string) bool { return s != "" && s[0] >= '0' && s[0] <= '9' }
