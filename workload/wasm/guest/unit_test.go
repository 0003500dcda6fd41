package guest

import (
	"errors"
	"strings"
	"testing"
)

func TestParseResponse(t *testing.T) {
	if got, err := parseResponse([]byte("HTTP/1.0 404 Not Found\r\nA: b\r\n\r\nbody\r\n\r\nmore")); err != nil || string(got) != "404\nbody\r\n\r\nmore" {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"", "HTTP/1.0 200 OK\r\n", "FTP/1.0 200\r\n\r\n", "HTTP/1.0 abc\r\n\r\n", "HTTP/1.0 99\r\n\r\n"} {
		if _, err := parseResponse([]byte(bad)); err == nil {
			t.Errorf("%q was parsed", bad)
		}
	}
	if _, err := parseResponse([]byte("HTTP/1.0 200 OK\r\n\r\n" + strings.Repeat("x", maxCall))); !errors.Is(err, errTooLong) {
		t.Errorf("too long: %v", err)
	}
}

func TestValidRequest(t *testing.T) {
	for _, c := range []struct {
		method, path string
		want         bool
	}{
		{"GET", "/", true}, {"POST", "/v1/publish?x=y", true}, {"get", "/", false}, {"", "/", false}, {"GET", "", false}, {"GET", "x", false},
		{"GET", "/ HTTP/1.1\r\nHost: other", false}, {"GET\r\n", "/", false}, {"GET", "/\x00", false}, {"GET", "/" + strings.Repeat("x", 3000), false},
	} {
		if got := validRequest(c.method, c.path); got != c.want {
			t.Errorf("%q %.40q: %v", c.method, c.path, got)
		}
	}
}
