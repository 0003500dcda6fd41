package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestABusyDaemonSaysSo fills every place of a daemon: a further request is told
// so at once, with when to come back, and a further submission after its wait.
func TestABusyDaemonSaysSo(t *testing.T) {
	s := NewServer(nil, slog.New(slog.DiscardHandler), Options{})
	s.load = load{requests: make(chan struct{}, 2), submits: make(chan struct{}, 1), wait: time.Millisecond}
	asks := func(method, path string) (*Error, *http.Response) {
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, httptest.NewRequest(method, path, nil))
		var e Error
		if err := json.Unmarshal(rec.Body.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		return &e, rec.Result()
	}
	s.load.submits <- struct{}{}
	e, resp := asks("POST", "/v1/workloads")
	if e.Kind != Busy || e.Hint == "" || resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Errorf("one submission too many: %+v, %s", e, resp.Status)
	}
	if len(s.load.requests) != 0 {
		t.Error("a request that was refused keeps its place")
	}
	s.load.requests <- struct{}{}
	s.load.requests <- struct{}{}
	if e, resp := asks("GET", "/v1/workloads"); e.Kind != Busy || resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("one request too many: %+v, %s", e, resp.Status)
	}
	if _, err := s.load.enter(httptest.NewRequest("GET", "/v1/status", nil)); err != nil {
		t.Errorf("a busy daemon does not say how it does: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.load.wait = time.Hour
	if _, err := s.load.turn(ctx); err == nil {
		t.Error("a client that is gone got a turn")
	}
}
