package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/errcode"
	"oras.land/oras-go/v2/registry/remote/retry"

	"github.com/perrin-mesh/perrin/workload/oci/image"
)

// answerWithin is how long a registry may take to begin an answer.
const answerWithin = 30 * time.Second

// registryStore is one repository of a registry.
type registryStore struct {
	repo      *remote.Repository
	transport *http.Transport
}

func openRegistry(ref registry.Reference) (*registryStore, error) {
	creds, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return nil, fmt.Errorf("%w: Docker's configuration: %w", ErrDenied, err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = answerWithin
	client := &auth.Client{
		Client: &http.Client{Transport: &retry.Transport{Base: transport, Policy: patience}},
		Cache:  auth.NewCache(), Credential: credentials.Credential(creds),
	}
	client.SetUserAgent("perrin")
	if loopback(ref.Host()) {
		client.BlockedRealmPrefixes = []netip.Prefix{} // its token server is as near as it is
	}
	repo := &remote.Repository{Client: client, Reference: ref, MaxMetadataBytes: image.MaxManifest}
	return &registryStore{repo: repo, transport: transport}, nil
}

// patience is how often a request is tried again: a person waits for it.
func patience() retry.Policy {
	return &retry.GenericPolicy{
		Retryable: retry.DefaultPredicate, Backoff: retry.DefaultBackoff,
		MinWait: 200 * time.Millisecond, MaxWait: 2 * time.Second, MaxRetry: 3,
	}
}

func (r *registryStore) resolve(ctx context.Context, tag string) (v1.Descriptor, error) {
	d, err := r.repo.Resolve(ctx, tag)
	if errors.Is(err, http.ErrSchemeMismatch) && loopback(r.repo.Reference.Host()) {
		r.repo.PlainHTTP = true
		d, err = r.repo.Resolve(ctx, tag)
	}
	if err != nil {
		return d, r.explain(err)
	}
	if !image.IsIndex(d.MediaType) && !image.IsManifest(d.MediaType) {
		return d, fmt.Errorf("%w: %s is of type %.100q", image.ErrInvalid, r.repo.Reference, d.MediaType)
	}
	return d, nil
}

func (r *registryStore) fetch(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	body, err := r.repo.Fetch(ctx, d)
	if err != nil {
		return nil, r.explain(err)
	}
	return body, nil
}

func (r *registryStore) close() error {
	r.transport.CloseIdleConnections()
	return nil
}

// explain tells apart what a user can do something about.
func (r *registryStore) explain(err error) error {
	ref := r.repo.Reference
	var answer *errcode.ErrorResponse
	var op *net.OpError
	var dns *net.DNSError
	var request *url.Error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &answer) && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden),
		errors.Is(err, auth.ErrBasicCredentialNotFound):
		return fmt.Errorf("%w to %s", ErrDenied, ref)
	case errors.Is(err, errdef.ErrNotFound):
		return fmt.Errorf("%w: %s has no %s:%s", ErrNotFound, ref.Registry, ref.Repository, ref.Reference)
	case errors.As(err, &answer):
		return fmt.Errorf("%s answered %d: %w", ref.Registry, answer.StatusCode, err)
	case errors.As(err, &op), errors.As(err, &dns), errors.As(err, &request):
		return fmt.Errorf("%w: %s: %w", ErrUnreachable, ref.Registry, err)
	}
	return err
}
