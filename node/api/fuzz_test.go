package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/api/apitest"
	"github.com/perrin-mesh/perrin/workload"
)

// FuzzRoutes sends requests of arbitrary bytes to the local API. Each is
// answered, none is the daemon's own failure, and JSON is whole.
func FuzzRoutes(f *testing.F) {
	fake := apitest.New(programs)
	f.Cleanup(fake.Close)
	s := api.NewServer(fake, slog.New(slog.DiscardHandler), api.Options{})
	id := workload.ID{Cell: apitest.Cell}.String()
	spec := workload.DefaultSpec()
	spec.Program = workload.Program{Kind: workload.Process, Host: "echo", Name: "echo"}
	body, err := json.Marshal(spec)
	if err != nil {
		f.Fatal(err)
	}
	for _, line := range []string{
		"GET /v1/status?stats=1", "GET /v1/ready", "GET /v1/nodes?find=a==b", "GET /v1/nodes/attic", "GET /v1/config", "GET /v1/blobs/" + workload.DigestOf(nil).String() + "?size=3",
		"GET /v1/workloads?all=1&label=a=b", "GET /v1/resolve?text=a", "GET /v1/workloads/" + id, "GET /v1/workloads/" + id + "/wait?since=1&timeout_ms=1",
		"GET /v1/workloads/" + id + "/tasks?from=1&count=4294967295", "GET /v1/workloads/" + id + "/why?task=0", "POST /v1/workloads/" + id + "/stop",
		"GET /metrics", "DELETE /v1//..", "GET /v1/workloads/%2e%2e/why", "POST /v1/drain", "POST /v1/workloads/" + id + "/attach?task=1",
	} {
		f.Add([]byte(line + " HTTP/1.1\r\nHost: perrin\r\n\r\n"))
	}
	for path, text := range map[string]string{"/v1/workloads": string(body), "/v1/blobs": "blob", "/v1/invitations": `{"uses":1,"ttl_ms":1000}`} {
		f.Add([]byte("POST " + path + " HTTP/1.1\r\nHost: perrin\r\nTransfer-Encoding: identity\r\nContent-Length: " + itoa(len(text)) + "\r\n\r\n" + text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil || strings.Contains(req.URL.Path, "drain") {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		w := httptest.NewRecorder()
		s.ServeHTTP(w, req.WithContext(ctx))
		var e api.Error
		if w.Code == http.StatusInternalServerError && json.Unmarshal(w.Body.Bytes(), &e) == nil && !strings.Contains(req.URL.Path, "attach") {
			t.Errorf("%s %q: %s", req.Method, req.URL, w.Body)
		}
		if w.Header().Get("Content-Type") == "application/json" && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %q is answered with %q", req.Method, req.URL, w.Body)
		}
	})
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

// FuzzAnswers lets a daemon answer a client with arbitrary bytes: each call ends
// with an answer or an error.
func FuzzAnswers(f *testing.F) {
	for _, text := range []string{
		"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"ready\":true}", "HTTP/1.1 404 Not Found\r\nContent-Length: 38\r\n\r\n{\"kind\":\"not-found\",\"error\":\"no such\"}",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "HTTP/1.1 500 X\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nnull",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: perrin-attach/1\r\n\r\n\x03\x00\x00\x00\x02hi\x05\x00\x00\x00\x00", "", "\x00",
	} {
		f.Add(uint8(0), []byte(text))
		f.Add(uint8(5), []byte(text))
	}
	socket := filepath.Join(f.TempDir(), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		f.Fatal(err)
	}
	said := make(chan []byte)
	go answerAll(ln, said)
	f.Cleanup(func() { ln.Close() })
	f.Fuzz(func(t *testing.T, which uint8, raw []byte) {
		if bytes.Contains(raw, []byte(" 429")) || bytes.Contains(raw, []byte(" 503")) {
			return // a client waits a while for a busy daemon
		}
		c, err := api.Dial(socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		over := make(chan struct{})
		go func() {
			for {
				select {
				case said <- raw:
				case <-over:
					return
				}
			}
		}()
		defer close(over)
		askDaemon(ctx, c, which)
		if ctx.Err() != nil {
			t.Error("the client waits for more than was said")
		}
	})
}

// askDaemon makes one call of a client's.
func askDaemon(ctx context.Context, c *api.Client, which uint8) {
	id := workload.ID{Cell: apitest.Cell}
	switch which % 9 {
	case 0:
		_, _ = c.Status(ctx, true)
	case 1:
		_, _ = c.List(ctx, true, nil)
	case 2:
		_, _ = c.Inspect(ctx, id)
	case 3:
		_, _ = c.Tasks(ctx, id, 0, 9)
	case 4:
		_, _ = c.Why(ctx, id, nil)
	case 5:
		_ = c.Attach(ctx, id, api.AttachOptions{Follow: true, Stdout: io.Discard, Stderr: io.Discard})
	case 6:
		_, _ = c.PutBlob(ctx, strings.NewReader("x"))
	case 7:
		if b, err := c.OpenBlob(ctx, workload.Ref{Size: 9}); err == nil {
			_, _ = io.Copy(io.Discard, b)
			b.Close()
		}
	default:
		_, _ = c.Resolve(ctx, "a")
	}
}

// answerAll says to every request what said has, and closes.
func answerAll(ln net.Listener, said <-chan []byte) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
				return
			}
			_, _ = conn.Write(<-said)
		}()
	}
}
