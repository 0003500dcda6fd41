package unit_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/workload/unit"
	"github.com/perrin-mesh/perrin/workload/unit/unittest"
)

// FuzzRequests sends requests of arbitrary bytes to the socket that a stranger's
// program speaks to. Each is answered with JSON, none is the node's failure, and
// nothing is published under a name that leads out of the outputs.
func FuzzRequests(f *testing.F) {
	for _, seed := range []string{
		"GET /v1/whoami HTTP/1.1\r\nHost: unit\r\n\r\n", "GET /v1/inputs HTTP/1.0\r\n\r\n", "GET /v1/cost HTTP/1.0\r\n\r\n",
		"POST /v1/publish?path=a/b HTTP/1.1\r\nHost: u\r\nContent-Length: 2\r\n\r\nhi",
		"POST /v1/publish?path=a&from=/out/f HTTP/1.1\r\nHost: u\r\n\r\n", "POST /v1/publish?path=../../a&from=../b HTTP/1.1\r\nHost: u\r\n\r\n",
		"POST /v1/publish?path=a HTTP/1.1\r\nHost: u\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
		"POST /v1/publish?path=%00&path=%ff HTTP/1.1\r\nHost: u\r\nContent-Length: 99\r\n\r\nhi",
		"GET /v1/notice?wait=0s&after=1 HTTP/1.1\r\nHost: u\r\n\r\n", "GET /v1/notice?wait=-1s&after=-1 HTTP/1.1\r\nHost: u\r\n\r\n",
		"GET /v1/dial/x HTTP/1.1\r\nHost: u\r\n\r\n", "PUT /v1/cost HTTP/1.1\r\nHost: u\r\n\r\n", "GET //v1/../x HTTP/1.1\r\nHost: u\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	a := unittest.New(f)
	s := unit.NewServer(a, 1<<16, slog.New(slog.DiscardHandler))
	f.Fuzz(func(t *testing.T, raw []byte) {
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		w := httptest.NewRecorder()
		s.ServeHTTP(w, req.WithContext(ctx))
		if w.Code >= 500 && w.Code != http.StatusNotImplemented {
			t.Errorf("%s %q: %d %s", req.Method, req.URL, w.Code, w.Body)
		}
		if !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %q is answered with %q", req.Method, req.URL, w.Body)
		}
		for name := range a.Published() {
			if !filepath.IsLocal(name) || path.Clean(name) != name || strings.ContainsRune(name, 0) {
				t.Errorf("published as %q", name)
			}
		}
	})
}
