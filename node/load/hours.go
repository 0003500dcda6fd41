package load

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Hours is a time of day, every day, by the machine's own clock and time zone.
// The zero value is never.
type Hours struct{ from, to int } // minutes since midnight

// ParseHours reads "9-18", "22:30-6" or, for never, "". The end is not included;
// an end before the beginning is of the next day.
func ParseHours(s string) (Hours, error) {
	if s == "" {
		return Hours{}, nil
	}
	begin, end, ok := strings.Cut(s, "-")
	from, err := minutes(begin)
	to, err2 := minutes(end)
	if !ok || err != nil || err2 != nil || from == to || from == 24*60 {
		return Hours{}, fmt.Errorf("want hours such as 9-18 or 22:30-6, got %.40q", s)
	}
	return Hours{from: from, to: to}, nil
}

func minutes(s string) (int, error) {
	hour, minute, exact := strings.Cut(strings.TrimSpace(s), ":")
	h, err := strconv.ParseUint(hour, 10, 8)
	m := uint64(0)
	if err == nil && exact {
		m, err = strconv.ParseUint(minute, 10, 8)
	}
	if err != nil || m > 59 || h*60+m > 24*60 {
		return 0, fmt.Errorf("no time of day: %.20q", s)
	}
	return int(h*60 + m), nil
}

// Hold reports whether now is within the hours.
func (h Hours) Hold(now time.Time) bool {
	at := now.Hour()*60 + now.Minute()
	switch {
	case h == Hours{}:
		return false
	case h.from < h.to:
		return h.from <= at && at < h.to
	}
	return at >= h.from || at < h.to
}
