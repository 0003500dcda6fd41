package unit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/unit/unitwire"
)

// route is one path of the protocol.
type route struct {
	method string
	handle func(*Server, http.ResponseWriter, *http.Request) (any, error)
}

// routes is version 1; reserved is what later versions will have.
var (
	routes = map[string]route{
		"/v1/whoami":  {http.MethodGet, (*Server).whoami},
		"/v1/inputs":  {http.MethodGet, (*Server).inputs},
		"/v1/publish": {http.MethodPost, (*Server).publish},
		"/v1/notice":  {http.MethodGet, (*Server).notice},
		"/v1/cost":    {http.MethodGet, (*Server).cost},
	}
	reserved = []string{"dial", "listen", "secrets", "volumes", "checkpoint"}
)

const hintPaths = "version 1 has GET /v1/whoami, /v1/inputs, /v1/notice and /v1/cost, and POST /v1/publish?path=NAME"

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.deadlines(w, answerTimeout)
	answer, err := s.route(w, r)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.reply(w, http.StatusOK, answer)
}

func (s *Server) deadlines(w http.ResponseWriter, d time.Duration) {
	c, end := http.NewResponseController(w), s.now().Add(d)
	if err := errors.Join(c.SetReadDeadline(end), c.SetWriteDeadline(end)); err != nil {
		s.log.Debug("unit: set a deadline", "err", err)
	}
}

func (s *Server) route(w http.ResponseWriter, r *http.Request) (any, error) {
	found, ok := routes[r.URL.Path]
	if !ok {
		return nil, unknown(r.URL.Path)
	}
	if r.Method != found.method {
		w.Header().Set("Allow", found.method)
		return nil, &Refusal{http.StatusMethodNotAllowed, fmt.Sprintf("%s takes %s, not %.20q", r.URL.Path, found.method, r.Method), ""}
	}
	return found.handle(s, w, r)
}

// unknown says what is wrong with a path that is not one of version 1.
func unknown(name string) error {
	if rest, ok := strings.CutPrefix(name, "/v1/"); ok {
		word, _, _ := strings.Cut(rest, "/")
		for _, later := range reserved {
			if word == later {
				return &Refusal{http.StatusNotImplemented, fmt.Sprintf("version 1 of the unit protocol does not offer %s", later), "it is reserved for a later version; " + hintPaths}
			}
		}
	}
	return &Refusal{http.StatusNotFound, fmt.Sprintf("there is no %.80q", name), hintPaths}
}

// refuse answers with an error.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var refusal *Refusal
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &refusal):
	case errors.As(err, &tooLarge):
		refusal = &Refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes", tooLarge.Limit), "write the file to the output folder and publish it with &from=FILE"}
	case errors.Is(err, fs.ErrNotExist):
		refusal = &Refusal{http.StatusNotFound, "there is no such file below the output folder", "write it to the folder that PERRIN_OUT names first"}
	default:
		s.log.Warn("unit: request failed", "path", fmt.Sprintf("%.80q", r.URL.Path), "err", err)
		refusal = &Refusal{http.StatusInternalServerError, "the node could not do that", "try again"}
	}
	s.reply(w, refusal.Status, unitwire.Error{Message: refusal.Message, Hint: refusal.Hint})
}

func (s *Server) reply(w http.ResponseWriter, status int, answer any) {
	b, err := json.Marshal(answer)
	if err != nil {
		s.log.Error("unit: encode an answer", "err", err)
		status, b = http.StatusInternalServerError, []byte(`{"error":"the node could not do that"}`)
	}
	b = append(b, '\n')
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	if _, err := w.Write(b); err != nil {
		s.log.Debug("unit: answer", "err", err)
	}
}

func (s *Server) whoami(http.ResponseWriter, *http.Request) (any, error) {
	who := s.backend.Whoami()
	who.Version = unitwire.Version
	return who, nil
}

func (s *Server) inputs(http.ResponseWriter, *http.Request) (any, error) {
	answer := unitwire.Inputs{Inputs: []unitwire.Input{}}
	for _, in := range s.backend.Inputs() {
		answer.Inputs = append(answer.Inputs, unitwire.Input{
			Path: in.Path, Kind: string(in.Kind), Size: in.Blob.Size, Digest: in.Blob.Digest.String(),
		})
	}
	return answer, nil
}

func (s *Server) cost(http.ResponseWriter, *http.Request) (any, error) { return s.backend.Cost(), nil }

func (s *Server) publish(w http.ResponseWriter, r *http.Request) (any, error) {
	q, err := query(r, "path", "from")
	if err != nil {
		return nil, err
	}
	name, from := q.Get("path"), q.Get("from")
	if err := checkPath("path", name); err != nil {
		return nil, err
	}
	s.deadlines(w, bodyTimeout)
	ref, err := s.store(w, r, name, from)
	if err != nil {
		return nil, err
	}
	return unitwire.Published{Path: name, Size: ref.Size, Digest: ref.Digest.String()}, nil
}

func (s *Server) store(w http.ResponseWriter, r *http.Request, name, from string) (workload.Ref, error) {
	if from == "" {
		body := &bodyReader{body: http.MaxBytesReader(w, r.Body, s.maxPublish)}
		ref, err := s.backend.Publish(r.Context(), name, body)
		if body.err != nil {
			return ref, body.err
		}
		return ref, err
	}
	from = strings.TrimPrefix(from, outFolder)
	if err := checkPath("from", from); err != nil {
		return workload.Ref{}, err
	}
	var none [1]byte
	if n, _ := r.Body.Read(none[:]); n > 0 {
		return workload.Ref{}, &Refusal{http.StatusBadRequest, "from names a file, and there is a body as well", "give one of them"}
	}
	return s.backend.PublishFile(r.Context(), name, from)
}

// outFolder is where every program sees its output folder; a path below it may
// be given whole.
const outFolder = "/out/"

// bodyReader remembers why a body ended early, which is the program's doing.
type bodyReader struct {
	body io.Reader
	err  error
}

func (b *bodyReader) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if err == nil || err == io.EOF {
		return n, err
	}
	var tooLarge *http.MaxBytesError
	if b.err = err; !errors.As(err, &tooLarge) {
		b.err = &Refusal{http.StatusBadRequest, "the body ended before it was complete", ""}
	}
	return n, b.err
}

// query returns the parameters of r, each of them one of names and given once.
func query(r *http.Request, names ...string) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &Refusal{http.StatusBadRequest, "the query is not well formed", "escape % & + and spaces in it"}
	}
	left := len(q)
	for _, name := range names {
		if len(q[name]) > 1 {
			return nil, &Refusal{http.StatusBadRequest, fmt.Sprintf("%s is given %d times", name, len(q[name])), ""}
		}
		if q.Has(name) {
			left--
		}
	}
	if left > 0 {
		return nil, &Refusal{http.StatusBadRequest, "there is a parameter that is not known", "known: " + strings.Join(names, ", ")}
	}
	return q, nil
}

// checkPath refuses what cannot be the path of an output.
func checkPath(param, name string) error {
	hint := "for example: " + param + "=model/weights.bin"
	switch {
	case name == "":
		return &Refusal{http.StatusBadRequest, param + " is missing", hint}
	case len(name) > unitwire.MaxPath:
		return &Refusal{http.StatusBadRequest, fmt.Sprintf("%s has %d bytes, at most %d", param, len(name), unitwire.MaxPath), ""}
	case !fs.ValidPath(name) || name == "." || strings.ContainsRune(name, 0) || !utf8.ValidString(name) || path.Clean(name) != name:
		return &Refusal{http.StatusBadRequest, fmt.Sprintf("%s %.80q is not a relative, clean path", param, name), hint}
	}
	return nil
}

// notice answers at once when there is a notice newer than after, and waits
// for one otherwise.
func (s *Server) notice(w http.ResponseWriter, r *http.Request) (any, error) {
	q, err := query(r, "wait", "after")
	if err != nil {
		return nil, err
	}
	wait, after, err := noticeParams(q)
	if err != nil {
		return nil, err
	}
	s.deadlines(w, wait+answerTimeout)
	n := s.newer(r.Context(), wait, after)
	if n.Kind == "" {
		n.Kind = unitwire.None
	}
	if n.DeadlineMs > 0 {
		n.LeftMs = max(0, n.DeadlineMs-s.now().UnixMilli())
	}
	return n, nil
}

// newer returns the latest notice when it is newer than after, when one comes
// that is, or when wait is over.
func (s *Server) newer(ctx context.Context, wait time.Duration, after uint64) Notice {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		n, changed := s.backend.Notice()
		if n.Seq > after {
			return n
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return n
		}
	}
}

func noticeParams(q url.Values) (wait time.Duration, after uint64, err error) {
	if text := q.Get("wait"); text != "" {
		wait, err = time.ParseDuration(text)
		if err != nil || wait < 0 || wait > unitwire.MaxNotice*time.Second {
			return 0, 0, &Refusal{http.StatusBadRequest, fmt.Sprintf("wait %.20q: want 0s to %ds", text, unitwire.MaxNotice), "for example: wait=30s"}
		}
	}
	if text := q.Get("after"); text != "" {
		if after, err = strconv.ParseUint(text, 10, 64); err != nil {
			return 0, 0, &Refusal{http.StatusBadRequest, fmt.Sprintf("after %.20q: want the seq of a notice", text), ""}
		}
	}
	return wait, after, nil
}
