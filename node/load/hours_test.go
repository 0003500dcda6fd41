package load

import (
	"testing"
	"time"
)

func TestHours(t *testing.T) {
	for _, tt := range []struct {
		hours string
		at    string
		want  bool
	}{
		{"9-18", "08:59", false}, {"9-18", "09:00", true}, {"9-18", "17:59", true}, {"9-18", "18:00", false},
		{"22:30-6", "22:29", false}, {"22:30-6", "23:00", true}, {"22:30-6", "05:59", true}, {"22:30-6", "06:00", false},
		{"0-24", "00:00", true}, {"0-24", "23:59", true}, {"", "12:00", false},
	} {
		h, err := ParseHours(tt.hours)
		at, terr := time.Parse("15:04", tt.at)
		if err != nil || terr != nil || h.Hold(at) != tt.want {
			t.Errorf("%q at %s: %t, %v", tt.hours, tt.at, h.Hold(at), err)
		}
	}
	for _, bad := range []string{"9", "9-", "-18", "9-9", "24-6", "9-25", "9:60-18", "a-b", "9-18-20", "-1-5"} {
		if h, err := ParseHours(bad); err == nil {
			t.Errorf("%q is %+v", bad, h)
		}
	}
}
