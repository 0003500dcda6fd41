package api

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/perrin-mesh/perrin/workload"
)

func (s *Server) status(r *http.Request) (any, error) {
	return s.backend.Status(r.Context(), r.URL.Query().Get("stats") == "1")
}

// ready answers 200 when the mesh takes work and 503 with the reason otherwise.
func (s *Server) ready(r *http.Request) (any, error) {
	st, err := s.backend.Status(r.Context(), false)
	if err != nil {
		return nil, err
	}
	if !st.Ready {
		return nil, Errorf(Unavailable, "not ready: %s", st.Why)
	}
	return map[string]bool{"ready": true}, nil
}

func (s *Server) nodes(r *http.Request) (any, error) {
	find := r.URL.Query().Get("find")
	if _, err := workload.ParseWhere(find); err != nil {
		return nil, Errorf(Invalid, "find: %s", strings.TrimPrefix(err.Error(), "where: "))
	}
	return s.backend.Nodes(r.Context(), find)
}

func (s *Server) config(*http.Request) (any, error) { return s.backend.Config(), nil }

// putBlob stores a body. One that ends early is its sender's doing.
func (s *Server) putBlob(r *http.Request) (any, error) {
	body := &source{r: r.Body}
	ref, err := s.put(r, body)
	var big *http.MaxBytesError
	if err != nil && body.err != nil && !errors.As(body.err, &big) {
		return nil, Errorf(Invalid, "the upload ended before it was complete: %.200s", body.err.Error())
	}
	return ref, err
}

func (s *Server) openBlob(w http.ResponseWriter, r *http.Request) error {
	digest, err := workload.ParseDigest(r.PathValue("digest"))
	if err != nil {
		return Errorf(Invalid, "%s", err.Error())
	}
	size, err := queryUint(r, "size", 63, 0)
	if err != nil {
		return err
	}
	blob, err := s.backend.OpenBlob(r.Context(), workload.Ref{Digest: digest, Size: int64(size)})
	if err != nil {
		return err
	}
	defer blob.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, blob)
	return nil
}

// put stores a body, sealed when the query has the salt of its workload.
func (s *Server) put(r *http.Request, body io.Reader) (workload.Ref, error) {
	text := r.URL.Query().Get("seal")
	if text == "" {
		return s.backend.PutBlob(r.Context(), body)
	}
	salt, err := hex.DecodeString(text)
	if err != nil || len(salt) != saltSize {
		return workload.Ref{}, Errorf(Invalid, "seal: want the salt of the workload, %d hexadecimal digits", 2*saltSize)
	}
	return s.backend.PutSealed(r.Context(), salt, body)
}

// saltSize is that of a workload's seal in bytes.
const saltSize = 32

// openOutput streams what a result names. A failure after the first byte cuts
// the connection, so that a part is never taken for the whole.
func (s *Server) openOutput(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	digest, err := workload.ParseDigest(r.PathValue("digest"))
	if err != nil {
		return Errorf(Invalid, "%s", err.Error())
	}
	size, err := queryUint(r, "size", 63, 0)
	if err != nil {
		return err
	}
	content, err := s.backend.OpenOutput(r.Context(), id, workload.Ref{Digest: digest, Size: int64(size)})
	if err != nil {
		return err
	}
	defer content.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	sent := &countingWriter{w: w}
	if _, err = io.Copy(sent, content); err != nil && sent.n > 0 {
		s.log.Error("output cut short", "error", err)
		panic(http.ErrAbortHandler)
	}
	return err
}

func (s *Server) submit(r *http.Request) (any, error) {
	var spec workload.Spec
	if err := readJSON(r, &spec); err != nil {
		return nil, err
	}
	return s.backend.Submit(r.Context(), spec)
}

func (s *Server) list(r *http.Request) (any, error) {
	q := r.URL.Query()
	labels := map[string]string{}
	for _, l := range q["label"] {
		name, value, ok := strings.Cut(l, "=")
		if !ok || len(labels) >= workload.MaxLabels {
			return nil, Errorf(Invalid, "label: want at most %d of NAME=VALUE, got %.80q", workload.MaxLabels, l)
		}
		labels[name] = value
	}
	return s.backend.List(r.Context(), q.Get("all") == "1", labels)
}

func (s *Server) resolve(r *http.Request) (any, error) {
	text := r.URL.Query().Get("text")
	if text == "" || len(text) > 255 {
		return nil, Errorf(Invalid, "want an ID, a prefix of one or a name of 1 to 255 bytes")
	}
	return s.backend.Resolve(r.Context(), text)
}

func (s *Server) inspect(r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	return s.backend.Inspect(r.Context(), id)
}

func (s *Server) wait(r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	since, err := queryUint(r, "since", 64, 0)
	if err != nil {
		return nil, err
	}
	ms, err := queryUint(r, "timeout_ms", 31, 0)
	if err != nil {
		return nil, err
	}
	return s.backend.Wait(r.Context(), id, since, min(time.Duration(ms)*time.Millisecond, maxWait))
}

// taskPage is one page of tasks. Small content rides inside the results.
type taskPage struct {
	Tasks []Task `json:"tasks"`
}

func (s *Server) tasks(r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	from, err := queryUint(r, "from", 32, 0)
	if err != nil {
		return nil, err
	}
	count, err := queryUint(r, "count", 32, maxTaskPage)
	if err != nil {
		return nil, err
	}
	tasks, err := s.backend.Tasks(r.Context(), id, uint32(from), uint32(min(count, maxTaskPage)))
	if err != nil {
		return nil, err
	}
	return taskPage{Tasks: tasks}, nil
}

func (s *Server) why(r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	if r.URL.Query().Get("task") == "" {
		return s.backend.Why(r.Context(), id, nil)
	}
	n, err := queryUint(r, "task", 32, 0)
	if err != nil {
		return nil, err
	}
	task := uint32(n)
	return s.backend.Why(r.Context(), id, &task)
}

func (s *Server) stop(r *http.Request) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	return struct{}{}, s.backend.Stop(r.Context(), id)
}

// inviteRequest is the body of an invitation.
type inviteRequest struct {
	Uses  int   `json:"uses"`
	TTLms int64 `json:"ttl_ms"`
}

func (s *Server) invite(r *http.Request) (any, error) {
	var req inviteRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	return s.backend.Invite(r.Context(), req.Uses, time.Duration(req.TTLms)*time.Millisecond)
}

func (s *Server) drain(r *http.Request) (any, error) {
	return struct{}{}, s.backend.Drain(r.Context())
}

// metrics answers in the Prometheus text format. A failure after the first
// byte cuts the connection, so that half an answer is never taken for a whole.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	sent := &countingWriter{w: w}
	err := s.backend.Metrics(sent)
	if err != nil && sent.n > 0 {
		s.log.Error("metrics cut short", "error", err)
		panic(http.ErrAbortHandler)
	}
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
