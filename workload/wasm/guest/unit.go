package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// The host module through which a guest, which has no sockets, speaks the
// unit's protocol: call(request, request length, response, response capacity).
// A request is "METHOD PATH\n" and the body, a response is "STATUS\n" and the
// body. The result is the response's length; minus that length when it does
// not fit, and then the same call again gets the same response without a
// second request; or one of the errors below, which no length can be, since a
// response has at least four bytes.
const (
	hostModule = "perrin"
	hostCall   = "call"
)

// Errors of call.
const (
	callInvalid = -1 // the request or a pointer is malformed
	callNoUnit  = -2 // the attempt has no unit socket, or it did not answer
	callTooLong = -3 // request or response is longer than maxCall
)

const (
	maxCall     = 64 << 10
	maxHead     = 16 << 10
	callTimeout = 30 * time.Second
)

type unitKey struct{}

// unit is one attempt's connection to its node.
type unit struct {
	find       func() string // the socket, "" for none; nil is none
	asked, had []byte        // the last response that did not fit, and its request
}

func instantiateHost(ctx context.Context, rt wazero.Runtime) error {
	_, err := rt.NewHostModuleBuilder(hostModule).NewFunctionBuilder().
		WithFunc(func(ctx context.Context, m api.Module, reqPtr, reqLen, respPtr, respCap uint32) int32 {
			u, _ := ctx.Value(unitKey{}).(*unit)
			return u.bridge(m.Memory(), reqPtr, reqLen, respPtr, respCap)
		}).Export(hostCall).Instantiate(ctx)
	return err
}

func (u *unit) bridge(mem api.Memory, reqPtr, reqLen, respPtr, respCap uint32) int32 {
	if u == nil || u.find == nil {
		return callNoUnit
	}
	if reqLen > maxCall {
		return callTooLong
	}
	req, ok := mem.Read(reqPtr, reqLen)
	if !ok {
		return callInvalid
	}
	resp := u.had
	if resp == nil || !bytes.Equal(req, u.asked) {
		var code int32
		if resp, code = u.ask(req); code != 0 {
			return code
		}
	}
	u.asked, u.had = nil, nil
	if uint32(len(resp)) > respCap {
		u.asked, u.had = bytes.Clone(req), resp
		return -int32(len(resp))
	}
	if !mem.Write(respPtr, resp) {
		return callInvalid
	}
	return int32(len(resp))
}

func (u *unit) ask(req []byte) ([]byte, int32) {
	line, body, _ := bytes.Cut(req, []byte("\n"))
	method, path, ok := strings.Cut(string(line), " ")
	if !ok || !validRequest(method, path) {
		return nil, callInvalid
	}
	resp, err := exchange(u.find(), method, path, body)
	switch {
	case errors.Is(err, errTooLong):
		return nil, callTooLong
	case err != nil:
		return nil, callNoUnit
	}
	return resp, 0
}

// validRequest keeps a guest from writing headers of its own.
func validRequest(method, path string) bool {
	letters := strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" && method != "" && len(method) <= 16
	plain := !strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r >= 0x7f })
	return letters && plain && strings.HasPrefix(path, "/") && len(path) <= 2048
}

var errTooLong = errors.New("response too long")

// exchange makes one HTTP/1.0 request (RFC 1945): the simplest form that any
// server answers with a body that ends with the connection.
func exchange(socket, method, path string, body []byte) ([]byte, error) {
	conn, err := net.DialTimeout("unix", socket, callTimeout)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(callTimeout)); err != nil {
		return nil, err
	}
	head := fmt.Sprintf("%s %s HTTP/1.0\r\nHost: unit\r\nContent-Length: %d\r\n\r\n", method, path, len(body))
	if _, err := conn.Write(append([]byte(head), body...)); err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(conn, maxCall+maxHead+1))
	if err != nil {
		return nil, err
	}
	return parseResponse(raw)
}

func parseResponse(raw []byte) ([]byte, error) {
	head, body, ok := bytes.Cut(raw, []byte("\r\n\r\n"))
	fields := strings.Fields(string(head[:min(len(head), 64)]))
	if !ok || len(fields) < 2 || !strings.HasPrefix(fields[0], "HTTP/1.") {
		return nil, errors.New("not an HTTP response")
	}
	status, err := strconv.Atoi(fields[1])
	if err != nil || status < 100 || status > 999 {
		return nil, errors.New("not an HTTP status")
	}
	if len(body)+4 > maxCall {
		return nil, errTooLong
	}
	return append(fmt.Appendf(nil, "%d\n", status), body...), nil
}
