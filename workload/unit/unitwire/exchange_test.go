package unitwire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
)

// talk is a connection that gives a fixed answer.
type talk struct {
	sent bytes.Buffer
	io.Reader
	fail error // of Write
}

func (c *talk) Write(p []byte) (int, error) {
	if c.fail != nil {
		return 0, c.fail
	}
	return c.sent.Write(p)
}

func TestExchangeSendsOneRequest(t *testing.T) {
	c := &talk{Reader: strings.NewReader("HTTP/1.1 200 OK\r\nContent-Type: x\r\ncontent-length: 5\r\n\r\nhello and more")}
	got, err := Exchange(c, Request("POST", "/v1/publish?path=x", []byte("body")))
	if err != nil || string(got) != "200\nhello" {
		t.Fatalf("got %q, %v", got, err)
	}
	want := "POST /v1/publish?path=x HTTP/1.1\r\nHost: unit\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody"
	if c.sent.String() != want {
		t.Errorf("sent %q, want %q", c.sent.String(), want)
	}
}

func TestRequestsThatAreNone(t *testing.T) {
	for _, r := range []string{
		"", "\n", "GET\n", "GET /x", "get /x\n", "GET x\n", "GET /x y\n", "GET /x\r\nHost: y\n", "GET /x\x00\n", "GET /\x7f\n", " /x\n",
		"GET /é\n", "G\rT /x\n", "GET /" + strings.Repeat("x", 9000) + "\n", "ABCDEFGHIJKLMNOPQ /x\n",
	} {
		c := &talk{Reader: strings.NewReader("")}
		if _, err := Exchange(c, []byte(r)); !errors.Is(err, ErrProtocol) || c.sent.Len() != 0 {
			t.Errorf("%.40q: %v, sent %q", r, err, c.sent.String())
		}
	}
}

func TestResponsesThatAreNone(t *testing.T) {
	for _, r := range []string{
		"", "HTTP/1.1", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
		"HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 65) + "Content-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 9000) + "\r\n\r\n",
	} {
		if got, err := Exchange(&talk{Reader: strings.NewReader(r)}, []byte("GET /x\n")); !errors.Is(err, ErrProtocol) {
			t.Errorf("%.60q: %q, %v", r, got, err)
		}
	}
}

func TestAnswerCountsWhenTheBodyWasNotTaken(t *testing.T) {
	c := &talk{fail: errors.New("broken pipe"), Reader: strings.NewReader("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}")}
	if got, err := Exchange(c, []byte("POST /x\nbig")); err != nil || string(got) != "413\n{}" {
		t.Errorf("got %q, %v", got, err)
	}
	c = &talk{fail: errors.New("broken pipe"), Reader: strings.NewReader("")}
	if _, err := Exchange(c, []byte("POST /x\nbig")); err == nil || errors.Is(err, ErrProtocol) {
		t.Errorf("got %v", err)
	}
}

func TestResult(t *testing.T) {
	tests := []struct {
		response int
		size     int
		err      error
		want     int32
	}{
		{10, 10, nil, 10}, {0, 0, nil, 0}, {11, 10, nil, -NeedMin}, {NeedMin + 1, 10, nil, -NeedMin - 1}, {MaxResponse + 4, 0, nil, -MaxResponse - 4},
		{0, 10, fmt.Errorf("x: %w", ErrProtocol), -22}, {0, 10, io.EOF, -5},
	}
	for _, test := range tests {
		got, n := Result(make([]byte, test.response), test.size, test.err)
		if got != test.want || n != int(max(0, got)) {
			t.Errorf("%+v: got %d and %d bytes", test, got, n)
		}
	}
}

func FuzzExchange(f *testing.F) {
	f.Add([]byte("GET /v1/whoami\n"), []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"))
	f.Add([]byte("POST /v1/publish?path=x\nbody"), []byte("HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n"))
	f.Add([]byte("x"), []byte("HTTP/1.1 200 OK\r\n\r\n"))
	f.Fuzz(func(t *testing.T, request, answer []byte) {
		c := &talk{Reader: bytes.NewReader(answer)}
		resp, err := Exchange(c, request)
		if err != nil {
			return
		}
		if n, _ := Result(resp, math.MaxInt32, nil); n < 4 {
			t.Errorf("response %q", resp)
		}
		if bytes.Count(c.sent.Bytes(), []byte("\r\n\r\n")) < 1 || bytes.HasPrefix(c.sent.Bytes(), []byte("\r\n")) {
			t.Errorf("sent %q", c.sent.Bytes())
		}
		if _, _, err := SplitResponse(resp); err != nil && !errors.Is(err, ErrProtocol) {
			t.Errorf("%q: %v", resp, err)
		}
	})
}
