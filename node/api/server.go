package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

// Bounds of a request and how long its parts may take. Streams (blobs, attach)
// may last as long as they move.
const (
	maxHeader     = 64 << 10
	maxJSON       = 8 << 20
	maxBlob       = 1 << 40
	maxTaskPage   = 4096
	maxWait       = time.Minute
	headerTimeout = 30 * time.Second
	bodyTimeout   = 30 * time.Second
	stallTimeout  = 2 * time.Minute
	idleTimeout   = 2 * time.Minute
	drainTimeout  = 3 * time.Second
)

// Options of a server.
type Options struct {
	Pprof bool // serve /debug/pprof/, which shows the daemon's memory and stacks
}

// Server answers the local API for a Backend. It is an http.Handler whose
// methods may be called from any goroutine.
type Server struct {
	backend Backend
	log     *slog.Logger
	mux     *http.ServeMux
	load    load
}

// NewServer returns a server of b that logs failures of its own to log.
func NewServer(b Backend, log *slog.Logger, opt Options) *Server {
	s := &Server{backend: b, log: log, mux: http.NewServeMux(), load: newLoad()}
	s.routes()
	if opt.Pprof {
		s.mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		s.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		s.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
		s.mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	}
	return s
}

func (s *Server) routes() {
	s.answer("GET /v1/status", s.status)
	s.answer("GET /v1/ready", s.ready)
	s.answer("GET /v1/nodes", s.nodes)
	s.answer("GET /v1/nodes/{node}", func(r *http.Request) (any, error) { return s.backend.Picture(r.Context(), r.PathValue("node")) })
	s.answer("POST /v1/attest", s.attest)
	s.answer("GET /v1/config", s.config)
	s.answer("POST /v1/blobs", s.putBlob)
	s.handle("GET /v1/blobs/{digest}", s.openBlob)
	s.handle("GET /v1/workloads/{id}/blobs/{digest}", s.openOutput)
	s.inTurn("POST /v1/workloads", s.submit)
	s.answer("GET /v1/workloads", s.list)
	s.answer("GET /v1/resolve", s.resolve)
	s.answer("GET /v1/workloads/{id}", s.inspect)
	s.answer("GET /v1/workloads/{id}/wait", s.wait)
	s.answer("GET /v1/workloads/{id}/tasks", s.tasks)
	s.answer("GET /v1/workloads/{id}/why", s.why)
	s.handle("GET /v1/workloads/{id}/receipt", s.receipt)
	s.answer("GET /v1/audit", s.audit)
	s.answer("POST /v1/workloads/{id}/stop", s.stop)
	s.handle("POST /v1/workloads/{id}/attach", s.attach)
	s.answer("POST /v1/invitations", s.invite)
	s.answer("POST /v1/drain", s.drain)
	s.trustRoutes()
	s.tokenRoutes()
	s.accountRoutes()
	s.handle("GET /metrics", s.metrics)
	s.answer("/", func(r *http.Request) (any, error) {
		return nil, Errorf(NotFound, "this daemon's API has no %s %.100q", r.Method, r.URL.Path)
	})
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	leave, err := s.load.enter(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer leave()
	r, err = takeToken(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// Serve answers requests on ln until ctx ends, then gives those under way a
// few seconds. It closes ln and returns nil when ctx ended it.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler: s, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		err := srv.Shutdown(grace)
		if errors.Is(err, context.DeadlineExceeded) {
			err = srv.Close()
		}
		stopped <- err
	})
	err := srv.Serve(ln)
	if !stop() {
		err = <-stopped
	}
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return errors.Join(err, closeQuietly(ln))
}

func closeQuietly(c io.Closer) error {
	if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// handle registers a route whose error becomes an Error answer.
func (s *Server) handle(pattern string, h func(http.ResponseWriter, *http.Request) error) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

// answer registers a route that answers with JSON and takes a bounded body.
func (s *Server) answer(pattern string, h func(*http.Request) (any, error)) {
	s.handle(pattern, func(w http.ResponseWriter, r *http.Request) error {
		limitBody(w, r)
		v, err := h(r)
		if err != nil {
			return err
		}
		return s.writeJSON(w, http.StatusOK, v)
	})
}

// inTurn is answer for what is bounded in how many are read at once.
func (s *Server) inTurn(pattern string, h func(*http.Request) (any, error)) {
	s.handle(pattern, func(w http.ResponseWriter, r *http.Request) error {
		leave, err := s.load.turn(r.Context())
		if err != nil {
			return err
		}
		defer leave()
		limitBody(w, r)
		v, err := h(r)
		if err != nil {
			return err
		}
		return s.writeJSON(w, http.StatusOK, v)
	})
}

func limitBody(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	if r.Pattern == "POST /v1/blobs" {
		r.Body = http.MaxBytesReader(w, &moving{r.Body, rc}, maxBlob)
		return
	}
	r.Body = http.MaxBytesReader(w, &untilDeadline{r.Body, rc, time.Now().Add(bodyTimeout)}, maxJSON)
}

// moving lets a body take as long as it likes, as long as it moves.
type moving struct {
	io.ReadCloser
	rc *http.ResponseController
}

func (m *moving) Read(p []byte) (int, error) {
	if err := m.rc.SetReadDeadline(time.Now().Add(stallTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	n, err := m.ReadCloser.Read(p)
	if err != nil {
		err = errors.Join(err, forgetDeadline(m.rc))
	}
	return n, asEOF(err)
}

// untilDeadline gives a body a fixed time to arrive.
type untilDeadline struct {
	io.ReadCloser
	rc *http.ResponseController
	at time.Time
}

func (d *untilDeadline) Read(p []byte) (int, error) {
	if err := d.rc.SetReadDeadline(d.at); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	n, err := d.ReadCloser.Read(p)
	if err != nil {
		err = errors.Join(err, forgetDeadline(d.rc))
	}
	return n, asEOF(err)
}

// forgetDeadline keeps the deadline of a body from ending what follows it.
func forgetDeadline(rc *http.ResponseController) error {
	if err := rc.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// asEOF undoes the wrapping of io.EOF, which readers compare.
func asEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return err
}

func (s *Server) writeJSON(w http.ResponseWriter, code int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.log.Debug("answer not written", "error", err)
	}
	return nil
}

func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := AsError(err)
	if e.Kind == Internal {
		s.log.Error("request failed", "method", r.Method, "path", fmt.Sprintf("%.200q", r.URL.Path), "error", err)
	}
	code := statusOf[e.Kind]
	if code == 0 {
		code = http.StatusInternalServerError
	}
	w.Header().Del("Content-Length")
	if e.Kind == Busy {
		w.Header().Set("Retry-After", retryAfter)
	}
	_ = s.writeJSON(w, code, e)
}

// readJSON decodes the whole body into v and refuses unknown fields.
func readJSON(r *http.Request, v any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil && dec.More() {
		err = errors.New("more than one value")
	}
	var big *http.MaxBytesError
	if err != nil && !errors.As(err, &big) {
		return Errorf(Invalid, "the request's body is not what is expected: %.200s", err.Error())
	}
	return err
}

func pathID(r *http.Request) (workload.ID, error) {
	id, err := workload.ParseID(r.PathValue("id"))
	if err != nil {
		return id, Errorf(Invalid, "%s", err.Error())
	}
	return id, nil
}

// queryUint reads an unsigned query value of at most bits; absent is def.
func queryUint(r *http.Request, name string, bits int, def uint64) (uint64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return def, nil
	}
	n, err := strconv.ParseUint(text, 10, bits)
	if err != nil {
		return 0, Errorf(Invalid, "%s: want a whole number, got %.40q", name, text)
	}
	return n, nil
}
