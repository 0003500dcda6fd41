package unpack

import (
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/perrin-mesh/perrin/workload/oci/image"
)

const tarBlock = 512

// maxWindow bounds what a zstd layer makes its reader remember, in bytes. The
// highest ordinary level of the zstd program, 19, needs 8 MiB.
const maxWindow = 64 << 20

// stream unpacks a layer and checks what went in and what came out.
type stream struct {
	layer image.Layer
	left  int64 // bytes that may still come out

	in      *counted
	out     io.Reader
	inSum   hash.Hash
	outSum  hash.Hash
	release func()
}

func newStream(r io.Reader, l image.Layer, most int64) (*stream, error) {
	s := &stream{layer: l, left: most, inSum: digest.SHA256.Hash(), outSum: digest.SHA256.Hash(), release: func() {}}
	s.in = &counted{r: io.TeeReader(io.LimitReader(r, l.Size+1), s.inSum)}
	switch l.Packing {
	case image.Plain:
		s.out = s.in
	case image.Gzip:
		z, err := gzip.NewReader(s.in)
		if err != nil {
			return nil, unpackError(err)
		}
		s.out, s.release = z, func() { z.Close() }
	case image.Zstd:
		z, err := zstd.NewReader(s.in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, unpackError(err)
		}
		s.out, s.release = z, z.Close
	default:
		return nil, refuse("a packing %.40q that is not known", l.Packing)
	}
	return s, nil
}

// counted counts what was read and keeps a failure of the reader below apart
// from the decompressor's.
type counted struct {
	r   io.Reader
	n   int64
	err error
}

// Read implements io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

// Read gives out the archive.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.out.Read(p)
	s.outSum.Write(p[:n])
	if s.left -= int64(n); s.left < 0 {
		return 0, refuse("it unpacks to more than an image may")
	}
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	if s.in.err != nil {
		return n, s.in.err
	}
	return n, unpackError(err)
}

func unpackError(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return refuse("it does not unpack: %w", err)
}

// finish reads what follows the archive and compares the digests.
func (s *stream) finish() error {
	if _, err := io.Copy(io.Discard, s); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, s.in); err != nil {
		return err
	}
	if s.in.n != s.layer.Size {
		return refuse("it has not the %d bytes that the manifest says", s.layer.Size)
	}
	if err := compare("what was moved", s.inSum, s.layer.Digest); err != nil {
		return err
	}
	return compare("what it unpacks to", s.outSum, s.layer.DiffID)
}

func compare(what string, sum hash.Hash, want digest.Digest) error {
	if got := digest.NewDigest(digest.SHA256, sum); got != want {
		return fmt.Errorf("%w: its digest lies: %s is %s, not %s", image.ErrInvalid, what, got, want)
	}
	return nil
}

func (s *stream) close() { s.release() }
