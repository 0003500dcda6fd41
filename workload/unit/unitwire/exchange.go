package unitwire

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// ErrProtocol is returned when a request or a response is not one.
var ErrProtocol = errors.New("unit protocol")

// NeedMin is the least that [Result] says is needed, so that a length and an
// errno cannot be confused.
const NeedMin = 4096

// Errno values that [Result] gives.
const (
	errnoIO      = 5  // EIO: the daemon cannot be reached
	errnoInvalid = 22 // EINVAL: the request is not one
)

// Request returns the bytes of a request.
func Request(method, path string, body []byte) []byte {
	return append([]byte(method+" "+path+"\n"), body...)
}

// SplitResponse returns the status and the body of a response.
func SplitResponse(b []byte) (status int, body []byte, err error) {
	line, body, ok := bytes.Cut(b, []byte("\n"))
	status, err = strconv.Atoi(string(line))
	if !ok || err != nil || status < 100 || status > 599 {
		return 0, nil, fmt.Errorf("%w: response %.40q: want a status and a line feed", ErrProtocol, line)
	}
	return status, body, nil
}

// SplitRequest returns the parts of a request, checked: letters for a method
// and a path without spaces or control characters.
func SplitRequest(b []byte) (method, path string, body []byte, err error) {
	line, body, ok := bytes.Cut(b[:min(len(b), MaxRequest)], []byte("\n"))
	method, path, ok2 := strings.Cut(string(line), " ")
	isPath := strings.HasPrefix(path, "/") && !strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r >= 0x7f })
	isMethod := method != "" && len(method) <= 16 && strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
	if !ok || !ok2 || !isPath || !isMethod || len(line) > 8<<10 || len(b) > MaxRequest {
		return "", "", nil, fmt.Errorf("%w: request %.80q: want \"METHOD /path\" and a line feed", ErrProtocol, line)
	}
	return method, path, body, nil
}

// Exchange sends request over conn, a fresh connection to the unit's socket,
// and returns the response, at most MaxResponse bytes. Deadlines are the caller's.
func Exchange(conn io.ReadWriter, request []byte) ([]byte, error) {
	method, path, body, err := SplitRequest(request)
	if err != nil {
		return nil, err
	}
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: unit\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", method, path, len(body))
	// A server that refuses a large body answers before it has read it all:
	// then the write fails and the answer still says why.
	_, werr := conn.Write(append([]byte(head), body...))
	resp, err := readResponse(bufio.NewReader(io.LimitReader(conn, MaxResponse+64<<10)))
	if err != nil && werr != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, werr)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return resp, nil
}

// readResponse reads an HTTP/1.1 response with a Content-Length, as the unit's
// server makes them.
func readResponse(r *bufio.Reader) ([]byte, error) {
	line, err := readLine(r)
	if err != nil {
		return nil, err
	}
	proto, rest, _ := strings.Cut(line, " ")
	status, _, _ := strings.Cut(rest, " ")
	if proto != "HTTP/1.1" || len(status) != 3 {
		return nil, fmt.Errorf("%w: response begins with %.80q", ErrProtocol, line)
	}
	length, err := readHeaders(r)
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(status)+1+length)
	copy(out, status+"\n")
	if _, err := io.ReadFull(r, out[len(status)+1:]); err != nil {
		return nil, fmt.Errorf("%w: response is cut: %w", ErrProtocol, err)
	}
	return out, nil
}

// readHeaders returns the Content-Length.
func readHeaders(r *bufio.Reader) (int, error) {
	length := -1
	for range 64 {
		line, err := readLine(r)
		if err != nil {
			return 0, err
		}
		if line == "" {
			if length < 0 {
				return 0, fmt.Errorf("%w: response without a length", ErrProtocol)
			}
			return length, nil
		}
		name, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(name, "Content-Length") {
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil || length < 0 || length > MaxResponse {
				return 0, fmt.Errorf("%w: response length %.40q", ErrProtocol, value)
			}
		}
	}
	return 0, fmt.Errorf("%w: more than 64 headers", ErrProtocol)
}

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return "", fmt.Errorf("%w: read the response: %w", ErrProtocol, err)
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

// Result returns what perrin.call gives its guest for a response, and how many
// bytes of it to copy into a buffer of size bytes: all or none. err is
// Exchange's.
func Result(response []byte, size int, err error) (result int32, n int) {
	switch {
	case errors.Is(err, ErrProtocol):
		return -errnoInvalid, 0
	case err != nil:
		return -errnoIO, 0
	case len(response) > size:
		return -int32(max(len(response), NeedMin)), 0
	}
	return int32(len(response)), len(response)
}
