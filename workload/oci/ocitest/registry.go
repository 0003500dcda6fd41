package ocitest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// Registry is a registry on loopback (distribution-spec 1.1, pull and push).
type Registry struct {
	Host string // host:port

	user, password string // "" lets everybody in
	bearer         bool   // by a token of its own rather than by password

	mu      sync.Mutex
	blobs   map[digest.Digest][]byte
	tags    map[string]digest.Digest // "repository:tag", also "repository@digest"
	types   map[digest.Digest]string
	uploads int
	gets    map[digest.Digest]int
}

// NewRegistry starts a registry for everybody.
func NewRegistry(tb testing.TB) *Registry { return start(tb, &Registry{}) }

// NewPrivate starts a registry for one user; with bearer it gives out tokens.
func NewPrivate(tb testing.TB, user, password string, bearer bool) *Registry {
	return start(tb, &Registry{user: user, password: password, bearer: bearer})
}

func start(tb testing.TB, r *Registry) *Registry {
	tb.Helper()
	r.blobs, r.tags, r.types, r.gets = map[digest.Digest][]byte{}, map[string]digest.Digest{}, map[digest.Digest]string{}, map[digest.Digest]int{}
	srv := httptest.NewServer(r)
	tb.Cleanup(srv.Close)
	r.Host = strings.TrimPrefix(srv.URL, "http://")
	return r
}

// Push uploads the image as a client would.
func (r *Registry) Push(tb testing.TB, img *Image, repository, tag string) {
	tb.Helper()
	repo, err := remote.NewRepository(r.Host + "/" + repository)
	if err != nil {
		tb.Fatal(err)
	}
	repo.PlainHTTP = true
	repo.Client = &auth.Client{Credential: auth.StaticCredential(r.Host, auth.Credential{Username: r.user, Password: r.password})}
	ctx := context.Background()
	for d, content := range img.Blobs {
		kind := kindOf(img, d)
		if err := repo.Push(ctx, v1.Descriptor{MediaType: kind, Digest: d, Size: int64(len(content))}, bytes.NewReader(content)); err != nil {
			tb.Fatalf("push %s: %v", d, err)
		}
	}
	if err := repo.Tag(ctx, img.Top, tag); err != nil {
		tb.Fatalf("tag %s: %v", tag, err)
	}
}

// kindOf guesses what a blob is from its content.
func kindOf(img *Image, d digest.Digest) string {
	for _, kind := range []string{v1.MediaTypeImageIndex, v1.MediaTypeImageManifest} {
		if bytes.Contains(img.Blobs[d], []byte(`"mediaType":"`+kind+`","`)) && bytes.HasPrefix(img.Blobs[d], []byte(`{"schemaVersion"`)) {
			if kind == v1.MediaTypeImageIndex || !bytes.Contains(img.Blobs[d], []byte(`"manifests"`)) {
				return kind
			}
		}
	}
	return "application/octet-stream"
}

// Replace makes the registry lie: it answers another content for a digest.
func (r *Registry) Replace(d digest.Digest, content []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blobs[d] = content
}

// Gets returns how often the content of a digest was read.
func (r *Registry) Gets(d digest.Digest) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gets[d]
}

// ServeHTTP implements http.Handler.
func (r *Registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	if q.URL.Path == "/token" {
		r.token(w, q)
		return
	}
	if !r.allowed(w, q) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	path := strings.TrimPrefix(q.URL.Path, "/v2/")
	switch {
	case path == "":
	case strings.Contains(path, "/manifests/"):
		repo, ref, _ := strings.Cut(path, "/manifests/")
		r.manifest(w, q, repo, ref)
	case strings.Contains(path, "/blobs/uploads/"):
		r.upload(w, q, path)
	case strings.Contains(path, "/blobs/"):
		_, ref, _ := strings.Cut(path, "/blobs/")
		r.send(w, q, digest.Digest(ref), "application/octet-stream")
	default:
		http.NotFound(w, q)
	}
}

const secretToken = "of-this-registry"

func (r *Registry) token(w http.ResponseWriter, q *http.Request) {
	if user, password, _ := q.BasicAuth(); user != r.user || password != r.password {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	fmt.Fprintf(w, `{"token":%q}`, secretToken)
}

func (r *Registry) allowed(w http.ResponseWriter, q *http.Request) bool {
	if r.user == "" {
		return true
	}
	if r.bearer {
		if q.Header.Get("Authorization") == "Bearer "+secretToken {
			return true
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test"`, r.Host))
	} else {
		if user, password, _ := q.BasicAuth(); user == r.user && password == r.password {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
	}
	w.WriteHeader(http.StatusUnauthorized)
	return false
}

func (r *Registry) manifest(w http.ResponseWriter, q *http.Request, repo, ref string) {
	if q.Method == http.MethodPut {
		content, _ := io.ReadAll(q.Body)
		d := digest.FromBytes(content)
		r.blobs[d], r.types[d] = content, q.Header.Get("Content-Type")
		r.tags[repo+":"+ref], r.tags[repo+":"+d.String()] = d, d
		w.Header().Set("Docker-Content-Digest", d.String())
		w.WriteHeader(http.StatusCreated)
		return
	}
	d, ok := r.tags[repo+":"+ref]
	if !ok {
		http.NotFound(w, q)
		return
	}
	r.send(w, q, d, r.types[d])
}

func (r *Registry) send(w http.ResponseWriter, q *http.Request, d digest.Digest, kind string) {
	content, ok := r.blobs[d]
	if !ok {
		http.NotFound(w, q)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	if q.Method == http.MethodGet {
		r.gets[d]++
		_, _ = w.Write(content)
	}
}

// upload takes a blob in one piece.
func (r *Registry) upload(w http.ResponseWriter, q *http.Request, path string) {
	if q.Method == http.MethodPost {
		r.uploads++
		w.Header().Set("Location", fmt.Sprintf("/v2/%s%d", path, r.uploads))
		w.WriteHeader(http.StatusAccepted)
		return
	}
	content, _ := io.ReadAll(q.Body)
	d := digest.FromBytes(content)
	if q.URL.Query().Get("digest") != d.String() {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.blobs[d] = content
	w.WriteHeader(http.StatusCreated)
}
