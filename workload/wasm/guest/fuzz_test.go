package guest

import (
	"bytes"
	"testing"

	"github.com/perrin-mesh/perrin/workload/wasm/frame"
)

// FuzzUnitCall reads arbitrary bytes as what a guest asks of its unit, and as
// what the unit's server answers.
func FuzzUnitCall(f *testing.F) {
	f.Add([]byte("GET /v1/whoami\n"), []byte("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"))
	f.Add([]byte("POST /v1/publish?path=a\nbody"), []byte("HTTP/1.1 413 \r\n\r\n"))
	f.Add([]byte("GET /a HTTP/1.0\r\nX: y\r\n\r\n"), []byte("HTTP/1. 9 \r\n\r\n"))
	f.Fuzz(func(t *testing.T, req, raw []byte) {
		line, _, _ := bytes.Cut(req, []byte("\n"))
		method, path, ok := bytes.Cut(line, []byte(" "))
		if ok && validRequest(string(method), string(path)) && bytes.ContainsAny(line, "\r\x00") {
			t.Errorf("%q would be sent as a line", line)
		}
		resp, err := parseResponse(raw)
		if err == nil && (len(resp) < 4 || resp[3] != '\n' || len(resp) > maxCall) {
			t.Errorf("a response of %d bytes: %.9q", len(resp), resp)
		}
	})
}

// FuzzReceive lets the daemon say arbitrary bytes to a worker: each attempt that
// it starts is handed over once, and its stdin ends.
func FuzzReceive(f *testing.F) {
	var out bytes.Buffer
	w := frame.NewWriter(&out)
	for _, send := range []func() error{
		func() error { return w.SendJSON(frame.Run, 1, frame.Request{Args: []string{"a"}, Stdin: true}) },
		func() error { return w.Send(frame.Stdin, 1, []byte("in")) },
		func() error { return w.Send(frame.UnitAt, 1, []byte("s")) },
		func() error { return w.Send(frame.StdinEnd, 1, nil) },
		func() error { return w.SendJSON(frame.Run, 2, frame.Request{}) },
	} {
		if err := send(); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(out.Bytes())
	f.Add([]byte{byte(frame.Stdin), 0, 0, 0, 0, 0, 0, 0, 1, 'x'})
	f.Fuzz(func(t *testing.T, raw []byte) {
		in := frame.NewReader(bytes.NewReader(raw))
		first, err := in.Next()
		if err != nil {
			return
		}
		attempts := make(chan *attempt)
		go receive(in, first, attempts)
		seen := 0
		for a := range attempts {
			seen++
			a.stdin.Close() // the attempt is over at once: what comes for it is dropped
		}
		if seen*9 > len(raw) {
			t.Errorf("%d attempts in %d bytes", seen, len(raw))
		}
	})
}
