package worker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/blob"
	"github.com/perrin-mesh/perrin/workload/runner"
	"github.com/perrin-mesh/perrin/workload/seal"
)

// What sealed content is, so that one cannot be shown as another. Programs,
// inputs and outputs are told apart by the digests in the body or the result
// that names them.
const (
	sealedBody    = "spec"
	SealedContent = "content"
)

func sealedResult(r *workload.TaskResult) string {
	return fmt.Sprintf("result %d.%d", r.Index, r.Attempt)
}

// Unsealer brings the content key of a slot of sealed work here. It blocks until
// the owner's node or enough of its helpers have released it, or one of them has
// refused, or ctx ends.
type Unsealer interface {
	Unseal(ctx context.Context, spec workload.Signed, ref wire.SlotRef) (*seal.Key, error)
}

// HideSpec returns the public spec of sealed work without its Body, and the
// sealed body. It does not look at blobs.
func HideSpec(spec *workload.Spec, k *seal.Key) (public workload.Spec, body []byte, err error) {
	public = spec.Public()
	inner := *spec
	inner.Seal = nil
	if body, err = k.Seal(wire.MustMarshal(&inner), sealedBody); err != nil {
		return public, nil, err
	}
	if len(body) > workload.MaxSealBody {
		return public, nil, fmt.Errorf("the sealed part of the spec is %d bytes, at most %d", len(body), workload.MaxSealBody)
	}
	c := *spec.Seal
	public.Seal = &c
	c.Check, err = k.Check()
	return public, body, err
}

// RevealSpec opens the body of sealed work and checks that it is of the public
// spec that its owner signed.
func RevealSpec(public *workload.Spec, body []byte, k *seal.Key) (*workload.Spec, error) {
	raw, err := k.Open(body, sealedBody)
	if err != nil {
		return nil, err
	}
	var inner workload.Spec
	if err := wire.Unmarshal(raw, &inner); err != nil {
		return nil, err
	}
	shown, again := *public, inner.Public()
	shown.Seal = nil
	if !bytes.Equal(wire.MustMarshal(&shown), wire.MustMarshal(&again)) {
		return nil, fmt.Errorf("%w: the sealed spec is another workload's", seal.ErrSealed)
	}
	inner.Seal = &workload.Seal{Salt: public.Seal.Salt}
	return &inner, inner.Validate()
}

// HideResult seals all of a result but how it ended, what it used, and which
// blobs have to be kept.
func HideResult(r *workload.TaskResult, k *seal.Key) error {
	raw, err := wire.Marshal(r)
	if err != nil {
		return err
	}
	if r.Sealed, err = k.Seal(raw, sealedResult(r)); err != nil {
		return err
	}
	r.Detail, r.Stdout.Data, r.Stderr.Data = "", nil, nil
	var kept []workload.Output
	for _, o := range r.Outputs {
		if !o.Blob.IsZero() {
			kept = append(kept, workload.Output{Path: fmt.Sprint(len(kept)), Blob: o.Blob})
		}
	}
	r.Outputs = kept
	return nil
}

// RevealResult opens what HideResult has sealed. A result that is not sealed
// stays as it is.
func RevealResult(r *workload.TaskResult, k *seal.Key) error {
	if len(r.Sealed) == 0 {
		return nil
	}
	raw, err := k.Open(r.Sealed, sealedResult(r))
	if err != nil {
		return err
	}
	var inner workload.TaskResult
	if err := wire.Unmarshal(raw, &inner); err != nil {
		return err
	}
	r.Detail, r.Stdout, r.Stderr, r.Outputs, r.Sealed = inner.Detail, inner.Stdout, inner.Stderr, inner.Outputs, nil
	return nil
}

// unseal gets the slot's key and the spec in full. Without a seal the spec is
// what it is.
func (s *slot) unseal() error {
	s.work = s.spec
	if !s.spec.Sealed() {
		return nil
	}
	if s.w.cfg.Unseal == nil {
		return errors.New("this node takes no sealed work")
	}
	k, err := s.w.cfg.Unseal.Unseal(s.bringing, s.signed, s.ref)
	if err != nil {
		return fmt.Errorf("the key was not released: %w", err)
	}
	s.secret = k
	store, ref, owner := s.w.cfg.Blobs, s.spec.Seal.Body, "slot/"+keyText(s.key)
	store.Pin(owner, ref)
	if !store.Has(ref) {
		if err := s.w.cfg.Fetch.Fetch(s.bringing, ref, s.holders); err != nil {
			return fmt.Errorf("sealed spec: %w", err)
		}
	}
	body, err := store.ReadAll(ref, workload.MaxSealBody)
	if err != nil {
		return fmt.Errorf("sealed spec: %w", err)
	}
	s.work, err = RevealSpec(s.spec, body, k)
	return err
}

// hideResult seals a result of sealed work. Where there is no key, nothing of the
// work was seen, and the reason is this node's own.
func (s *slot) hideResult(r *workload.TaskResult) *workload.TaskResult {
	if !s.spec.Sealed() || s.secret == nil {
		return r
	}
	if err := HideResult(r, s.secret); err != nil {
		r.Exit, r.Code, r.Detail, r.Stdout, r.Stderr, r.Outputs = workload.NodeFault, 0, "the result could not be sealed", workload.Stream{}, workload.Stream{}, nil
	}
	return r
}

// opened wraps a reader of a blob: of sealed work it gives the content.
func (s *slot) opened(r io.Reader) io.Reader {
	if s.secret == nil {
		return r
	}
	return seal.Decrypt(r, s.secret, SealedContent)
}

// sealing wraps a reader of content that is to be a blob.
func (s *slot) sealing(r io.Reader) (io.Reader, error) {
	if s.secret == nil {
		return r, nil
	}
	return seal.Encrypt(r, s.secret, SealedContent)
}

// revealed returns a file in the slot's folder, which is in memory, with the
// content of a sealed blob that is here.
func (st *stage) revealed(ref workload.Ref) (string, error) {
	path := filepath.Join(st.s.dir, "content-"+ref.Digest.Short())
	if st.files[ref] {
		return path, nil
	}
	r, err := st.s.w.cfg.Blobs.Open(ref)
	if err != nil {
		return "", err
	}
	defer r.Close()
	w, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(w, st.s.opened(r))
	if err = errors.Join(err, w.Chmod(0o555), w.Close()); err != nil {
		return "", err
	}
	st.files[ref] = true
	return path, nil
}

// dropRevealed removes the files of a task's own inputs that nothing else uses.
func (st *stage) dropRevealed(inputs []workload.Input) {
	for _, in := range inputs {
		if !st.files[in.Blob] || st.isStaged(in.Blob) {
			continue
		}
		delete(st.files, in.Blob)
		if err := os.Remove(filepath.Join(st.s.dir, "content-"+in.Blob.Digest.Short())); err != nil {
			st.s.log.Warn("remove a task's input")
		}
	}
}

func (st *stage) isStaged(ref workload.Ref) bool {
	w := st.s.work
	for _, in := range w.Inputs {
		if in.Blob == ref {
			return true
		}
	}
	return ref == w.Program.Blob
}

// secretsFolder is where the secrets of sealed work are files, below the
// working directory.
const secretsFolder = ".secrets"

// secrets stages them as files in the slot's folder, which is in memory.
func (st *stage) secrets() (out []runner.Mount, err error) {
	for _, sec := range st.s.work.Secrets {
		path := filepath.Join(st.s.dir, "secret-"+sec.Name)
		if err := os.WriteFile(path, sec.Data, 0o444); err != nil {
			return nil, errors.New("a secret could not be put into memory")
		}
		out = append(out, runner.Mount{Source: path, Target: secretsFolder + "/" + sec.Name})
	}
	return out, nil
}

// ReadTableSealed is ReadTable for a table that is sealed.
func ReadTableSealed(store *blob.Store, t workload.Tasks, k *seal.Key) ([]workload.Task, error) {
	sealed, err := store.ReadAll(t.Table, maxTable)
	if err != nil {
		return nil, err
	}
	raw, err := k.Open(sealed, SealedContent)
	if err != nil {
		return nil, err
	}
	return decodeTable(raw, t)
}

// summing hashes and counts what is read through it.
type summing struct {
	from io.Reader
	sum  hash.Hash
	n    int64
}

func newSumming(r io.Reader) *summing { return &summing{from: r, sum: sha256.New()} }

// Read implements io.Reader.
func (s *summing) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	s.sum.Write(p[:n])
	s.n += int64(n)
	return n, err
}

func (s *summing) ref() (ref workload.Ref) {
	s.sum.Sum(ref.Digest[:0])
	ref.Size = s.n
	return ref
}
