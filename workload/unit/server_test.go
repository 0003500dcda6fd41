package unit_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perrin-mesh/perrin/workload/unit"
	"github.com/perrin-mesh/perrin/workload/unit/unitclient"
	"github.com/perrin-mesh/perrin/workload/unit/unittest"
	"github.com/perrin-mesh/perrin/workload/unit/unitwire"
)

// ask makes one request and returns the status and the body.
func ask(t testing.TB, socket, method, path, body string) (int, string) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	resp, err := unitwire.Exchange(conn, unitwire.Request(method, path, []byte(body)))
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	status, b, err := unitwire.SplitResponse(resp)
	if err != nil {
		t.Fatal(err)
	}
	return status, string(b)
}

func TestClientGetsEveryAnswer(t *testing.T) {
	a := unittest.New(t)
	c, ctx := unitclient.NewAt(a.Serve(t)), context.Background()
	who, err := c.Whoami(ctx)
	want := a.Whoami()
	want.Version = 1
	if err != nil || who != want {
		t.Errorf("whoami %+v, %v", who, err)
	}
	inputs, err := c.Inputs(ctx)
	if err != nil || len(inputs) != 2 || inputs[1].Path != "data/images" || inputs[1].Kind != "tree" || inputs[1].Digest != a.Inputs()[1].Blob.Digest.String() {
		t.Errorf("inputs %+v, %v", inputs, err)
	}
	cost, err := c.Cost(ctx)
	if err != nil || cost != a.Cost() {
		t.Errorf("cost %+v, %v", cost, err)
	}
	p, err := c.Publish(ctx, "a/b c&d.txt", []byte("hello"))
	if err != nil || p.Size != 5 || p.Path != "a/b c&d.txt" || a.Published()[p.Path] != "hello" {
		t.Errorf("published %+v, %v; the owner sees %q", p, err, a.Published())
	}
	if err := os.WriteFile(filepath.Join(a.OutDir, "big"), []byte("from a file"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{"big", "/out/big"} {
		if _, err := c.PublishFile(ctx, "copy", from); err != nil || a.Published()["copy"] != "from a file" {
			t.Errorf("from %s: %v; the owner sees %q", from, err, a.Published())
		}
	}
}

func TestEmptyBodyIsAnEmptyOutput(t *testing.T) {
	a := unittest.New(t)
	status, _ := ask(t, a.Serve(t), "POST", "/v1/publish?path=empty", "")
	if got, ok := a.Published()["empty"]; status != 200 || !ok || got != "" {
		t.Errorf("status %d, published %q, %t", status, got, ok)
	}
}

func TestWrongRequestsAreExplained(t *testing.T) {
	a := unittest.New(t)
	socket := a.Serve(t)
	tests := []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/", "", 404, "version 1 has GET /v1/whoami"},
		{"GET", "/v2/whoami", "", 404, "version 1 has"},
		{"GET", "/v1/who", "", 404, "there is no"},
		{"POST", "/v1/whoami", "", 405, "takes GET"},
		{"GET", "/v1/publish?path=x", "", 405, "takes POST"},
		{"GET", "/v1/dial", "", 501, "does not offer dial"},
		{"POST", "/v1/listen", "", 501, "does not offer listen"},
		{"GET", "/v1/secrets/db", "", 501, "does not offer secrets"},
		{"GET", "/v1/volumes", "", 501, "does not offer volumes"},
		{"POST", "/v1/checkpoint", "x", 501, "does not offer checkpoint"},
		{"POST", "/v1/publish", "x", 400, "path is missing"},
		{"POST", "/v1/publish?path=", "x", 400, "path is missing"},
		{"POST", "/v1/publish?path=../x", "x", 400, "not a relative, clean path"},
		{"POST", "/v1/publish?path=/etc/x", "x", 400, "not a relative, clean path"},
		{"POST", "/v1/publish?path=a//b", "x", 400, "not a relative, clean path"},
		{"POST", "/v1/publish?path=.", "x", 400, "not a relative, clean path"},
		{"POST", "/v1/publish?path=a%00b", "x", 400, "not a relative, clean path"},
		{"POST", "/v1/publish?path=a%ffb", "x", 400, "not a relative, clean path"},
		{"POST", "/v1/publish?path=a&path=b", "x", 400, "given 2 times"},
		{"POST", "/v1/publish?path=a&mode=b", "x", 400, "not known"},
		{"POST", "/v1/publish?path=%zz", "x", 400, "query is not well formed"},
		{"POST", "/v1/publish?path=" + strings.Repeat("x", 1025), "x", 400, "at most 1024"},
		{"POST", "/v1/publish?path=x&from=../y", "", 400, "from"},
		{"POST", "/v1/publish?path=x&from=gone", "", 404, "no such file"},
		{"POST", "/v1/publish?path=x&from=y", "body", 400, "there is a body as well"},
		{"POST", "/v1/publish?path=x", strings.Repeat("x", 1<<20+1), 413, "more than 1048576 bytes"},
		{"GET", "/v1/notice?wait=soon", "", 400, "wait"},
		{"GET", "/v1/notice?wait=-1s", "", 400, "wait"},
		{"GET", "/v1/notice?wait=301s", "", 400, "want 0s to 300s"},
		{"GET", "/v1/notice?after=-1", "", 400, "after"},
	}
	for _, test := range tests {
		status, body := ask(t, socket, test.method, test.path, test.body)
		var e unitwire.Error
		if err := json.Unmarshal([]byte(body), &e); err != nil || status != test.status || !strings.Contains(e.Message+e.Hint, test.want) {
			t.Errorf("%s %.60s: %d %s, want %d and %q", test.method, test.path, status, body, test.status, test.want)
		}
	}
	if got := a.Published(); len(got) != 0 {
		t.Errorf("published %q", got)
	}
}

func TestErrorsOfTheNodeAreLoggedAndNotShown(t *testing.T) {
	a := unittest.New(t)
	a.Fail = errors.New("write /var/lib/perrin/blobs: no space left")
	var logged bytes.Buffer
	socket, stop, err := unit.ServeAttempt(t.TempDir(), a, 0, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	status, body := ask(t, socket, "POST", "/v1/publish?path=x", "x")
	stop()
	if status != 500 || strings.Contains(body, "/var/lib") {
		t.Errorf("%d %s", status, body)
	}
	if !strings.Contains(logged.String(), "no space left") {
		t.Errorf("log: %s", &logged)
	}
}

func TestRefusalsOfTheBackendAreShown(t *testing.T) {
	a := unittest.New(t)
	a.Fail = fmt.Errorf("publish: %w", &unit.Refusal{Status: 409, Message: "there are 4096 outputs already", Hint: "publish an archive"})
	_, err := unitclient.NewAt(a.Serve(t)).Publish(context.Background(), "x", nil)
	var e *unitclient.Error
	if !errors.As(err, &e) || e.Status != 409 || e.Message != "there are 4096 outputs already" || e.Hint != "publish an archive" {
		t.Errorf("got %v", err)
	}
}

func TestNoticeIsToldAtOnceAndWaitedFor(t *testing.T) {
	a := unittest.New(t)
	c, ctx := unitclient.NewAt(a.Serve(t)), context.Background()
	n, err := c.Notice(ctx, 0, 0)
	if err != nil || n.Kind != unitwire.None || n.Seq != 0 {
		t.Fatalf("before any: %+v, %v", n, err)
	}
	got := make(chan unitwire.Notice, 1)
	go func() {
		n, err := c.Notice(ctx, 0, time.Minute)
		if err != nil {
			t.Error(err)
		}
		got <- n
	}()
	a.Post(unitwire.Drain, "the owner of the machine is back", time.Now().Add(time.Hour).UnixMilli())
	n = <-got
	if n.Kind != unitwire.Drain || n.Seq != 1 || n.LeftMs < 3_500_000 || n.LeftMs > 3_600_000 {
		t.Errorf("waited for %+v", n)
	}
	if again, err := c.Notice(ctx, 0, time.Minute); err != nil || again.Seq != 1 {
		t.Errorf("it must be told at once to who has not seen it: %+v, %v", again, err)
	}
	go a.Post(unitwire.Preempt, "", 1)
	n, err = c.Notice(ctx, n.Seq, time.Minute)
	if err != nil || n.Kind != unitwire.Preempt || n.Seq != 2 || n.LeftMs != 0 {
		t.Errorf("the next: %+v, %v", n, err)
	}
}

func TestNoticeWaitsAsLongAsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &unittest.Attempt{}
		s := unit.NewServer(a, 0, slog.New(slog.DiscardHandler))
		start, w := time.Now(), httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", "/v1/notice?wait=90s", nil))
		if took := time.Since(start); took != 90*time.Second || w.Code != 200 || !strings.Contains(w.Body.String(), `"kind":"none"`) {
			t.Errorf("after %v: %d %s", took, w.Code, w.Body)
		}
	})
}

func TestStopEndsWaitersAndRemovesTheSocket(t *testing.T) {
	a := unittest.New(t)
	socket, stop, err := unit.ServeAttempt(t.TempDir(), a, 0, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /v1/notice?wait=300s HTTP/1.1\r\nHost: unit\r\n\r\n")
	ended := make(chan error, 1)
	go func() { _, err := io.ReadAll(conn); ended <- err }()
	stop()
	stop()
	<-ended
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestLongSocketPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	socket, stop, err := unit.ServeAttempt(dir, unittest.New(t), 0, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	info, err := os.Lstat(socket)
	if err != nil || info.Mode().Type() != os.ModeSocket || info.Mode().Perm() != 0o666 {
		t.Fatalf("%v, %v", info, err)
	}
	short := filepath.Join(t.TempDir(), "s")
	if err := os.Symlink(dir, short); err != nil {
		t.Fatal(err)
	}
	if status, _ := ask(t, filepath.Join(short, unit.SocketName), "GET", "/v1/cost", ""); status != 200 {
		t.Errorf("status %d", status)
	}
}

func TestServeAttemptInNoFolder(t *testing.T) {
	if _, _, err := unit.ServeAttempt(filepath.Join(t.TempDir(), "gone"), unittest.New(t), 0, slog.New(slog.DiscardHandler)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestHostileConnections: what is not HTTP, too long or unfinished is refused
// or cut, and the next request is answered all the same.
func TestHostileConnections(t *testing.T) {
	a := unittest.New(t)
	socket := a.Serve(t)
	tests := map[string]struct{ send, want string }{
		"not HTTP":          {"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", "400"},
		"a long header":     {"GET /v1/whoami HTTP/1.1\r\nHost: u\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", "431"},
		"two lengths":       {"POST /v1/publish?path=x HTTP/1.1\r\nHost: u\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "400"},
		"a negative length": {"POST /v1/publish?path=x HTTP/1.1\r\nHost: u\r\nContent-Length: -1\r\n\r\nx", "400"},
		"an absurd length":  {"POST /v1/publish?path=x HTTP/1.1\r\nHost: u\r\nContent-Length: 99999999999999999\r\n\r\n" + strings.Repeat("x", 2<<20), "413"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			go io.WriteString(conn, test.send)
			line, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil || !strings.Contains(line, test.want) {
				t.Errorf("answer %q, %v, want %s", line, err, test.want)
			}
		})
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "POST /v1/publish?path=half HTTP/1.1\r\nHost: u\r\nContent-Length: 100\r\n\r\nhalf")
	conn.(*net.UnixConn).CloseWrite()
	answer, _ := io.ReadAll(conn)
	conn.Close()
	if !strings.Contains(string(answer), "400") || len(a.Published()) != 0 {
		t.Errorf("a body cut short: %q, published %q", answer, a.Published())
	}
	if status, _ := ask(t, socket, "GET", "/v1/whoami", ""); status != 200 {
		t.Errorf("afterwards: %d", status)
	}
}

func TestConnectionsOverTheLimitWait(t *testing.T) {
	a := unittest.New(t)
	socket := a.Serve(t)
	var idle []net.Conn
	for range 16 {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /v1/cost HTTP/1.1\r\nHost: unit\r\n\r\n")
		if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
			t.Fatal(err)
		}
		idle = append(idle, conn)
	}
	answered := make(chan int, 1)
	go func() { status, _ := ask(t, socket, "GET", "/v1/cost", ""); answered <- status }()
	select {
	case <-answered:
		t.Error("the 17th connection was served beside 16")
	default:
	}
	idle[0].Close()
	if status := <-answered; status != 200 {
		t.Errorf("status %d", status)
	}
}
