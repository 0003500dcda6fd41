package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/node/api/apitest"
	"github.com/perrin-mesh/perrin/workload"
)

// raw sends an HTTP request to a client's socket without the client.
func raw(t *testing.T, c *api.Client, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	hc := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial("unix", c.Socket())
		},
	}}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://perrin"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := hc.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// TestBadRequestsGetOneSentence holds that whatever is wrong with a request is
// answered by an Error of the right kind and status.
func TestBadRequestsGetOneSentence(t *testing.T) {
	client := serve(t, apitest.New(programs), api.Options{})
	id := workload.ID{Cell: apitest.Cell}.String()
	for _, c := range []struct {
		method, path, body string
		status             int
		kind, message      string
	}{
		{"GET", "/v1/nothing", "", 404, api.NotFound, "has no GET"},
		{"DELETE", "/v1/status", "", 404, api.NotFound, "has no DELETE"},
		{"GET", "/debug/pprof/", "", 404, api.NotFound, "has no GET"},
		{"POST", "/v1/workloads", "{", 400, api.Invalid, "body"},
		{"POST", "/v1/workloads", `{"bogus": 1}`, 400, api.Invalid, "bogus"},
		{"POST", "/v1/workloads", `{} {}`, 400, api.Invalid, "more than one value"},
		{"POST", "/v1/workloads", `{"name":"` + strings.Repeat("x", 9<<20) + `"}`, 413, api.TooLarge, "larger than"},
		{"POST", "/v1/invitations", `{"uses": "many"}`, 400, api.Invalid, "body"},
		{"GET", "/v1/workloads/short", "", 400, api.Invalid, "want 39 characters"},
		{"GET", "/v1/workloads/" + id, "", 404, api.NotFound, "no workload"},
		{"GET", "/v1/workloads/" + id + "/wait?since=x", "", 400, api.Invalid, "since"},
		{"GET", "/v1/workloads/" + id + "/wait?timeout_ms=-1", "", 400, api.Invalid, "timeout_ms"},
		{"GET", "/v1/workloads/" + id + "/tasks?count=99999999999", "", 400, api.Invalid, "count"},
		{"GET", "/v1/workloads/" + id + "/why?task=a", "", 400, api.Invalid, "task"},
		{"POST", "/v1/workloads/" + id + "/attach", "", 400, api.Invalid, "Upgrade"},
		{"GET", "/v1/workloads?label=a", "", 400, api.Invalid, "NAME=VALUE"},
		{"GET", "/v1/resolve?text=", "", 400, api.Invalid, "1 to 255"},
		{"GET", "/v1/blobs/md5:1", "", 400, api.Invalid, "sha256"},
		{"GET", "/v1/nodes?find=cores%3E", "", 400, api.Invalid, "find: column"},
	} {
		resp, body := raw(t, client, c.method, c.path, c.body)
		var e api.Error
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			t.Errorf("%s %s: not an Error: %q", c.method, c.path, body)
			continue
		}
		if resp.StatusCode != c.status || e.Kind != c.kind || !strings.Contains(e.Message, c.message) {
			t.Errorf("%s %s: %d %+v, want %d %s %q", c.method, c.path, resp.StatusCode, e, c.status, c.kind, c.message)
		}
	}
}

func TestReadyMetricsAndProfiles(t *testing.T) {
	fake := apitest.New(programs)
	client := serve(t, fake, api.Options{Pprof: true})
	if resp, body := raw(t, client, "GET", "/v1/ready", ""); resp.StatusCode != 200 {
		t.Errorf("ready: %d %s", resp.StatusCode, body)
	}
	fake.NotReady("no leader")
	if resp, body := raw(t, client, "GET", "/v1/ready", ""); resp.StatusCode != 503 || !strings.Contains(body, "no leader") {
		t.Errorf("not ready: %d %s", resp.StatusCode, body)
	}
	resp, body := raw(t, client, "GET", "/metrics", "")
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain; version=0.0.4") || !strings.Contains(body, "perrin_up 1") {
		t.Errorf("metrics: %v %q", resp.Header, body)
	}
	if resp, _ := raw(t, client, "GET", "/debug/pprof/heap?debug=1", ""); resp.StatusCode == 404 {
		t.Error("pprof was asked for and is not there")
	}
}

// TestWorkloadOutlivesAMalformedAttach holds that a client which breaks the
// framing loses its connection and nothing else.
func TestWorkloadOutlivesAMalformedAttach(t *testing.T) {
	for name, frame := range map[string]string{
		"too long":       "\x01\xff\xff\xff\xff",
		"unknown kind":   "\x63\x00\x00\x00\x00",
		"beyond credit":  strings.Repeat("\x01\x00\x00\x80\x00"+strings.Repeat("x", 32<<10), 9),
		"server's frame": "\x06\x00\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan error, 1)
			client := serve(t, &watched{Fake: apitest.New(programs), ended: ended}, api.Options{})
			spec := host("deaf")
			spec.Interactive = true
			sub, err := client.Submit(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := net.Dial("unix", client.Socket())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "POST /v1/workloads/%s/attach?stdin=1&follow=1 HTTP/1.1\r\nHost: p\r\nConnection: Upgrade\r\nUpgrade: perrin-attach/1\r\n\r\n", sub.ID)
			r := bufio.NewReader(conn)
			resp, err := http.ReadResponse(r, nil)
			if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("%v, %v", resp, err)
			}
			// The daemon may hang up while this is being written.
			_, _ = io.WriteString(conn, frame)
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("attach ended with %v", err)
			}
			if w, err := client.Inspect(t.Context(), sub.ID); err != nil || w.Phase.Ended() {
				t.Errorf("the workload: %+v, %v", w, err)
			}
			if err := client.Stop(t.Context(), sub.ID); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAttachReportsALostDaemon holds that a connection which ends without a last
// frame is never taken for the end of the output.
func TestAttachReportsALostDaemon(t *testing.T) {
	socket := t.TempDir() + "/s"
	ln, err := api.Listen(socket, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil && req.Header.Get("Upgrade") != "" {
				io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\n\x03\x00\x00\x00\x02hi")
			}
			conn.Close()
		}
	}()
	client, err := api.Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	err = client.Attach(t.Context(), workload.ID{}, api.AttachOptions{Stdout: &out})
	if api.KindOf(err) != api.Unavailable || out.String() != "hi" {
		t.Errorf("%v, %q", err, out.String())
	}
}
