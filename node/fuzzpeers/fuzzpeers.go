// Package fuzzpeers lets fuzz targets speak to a leader or a worker as its peers
// would: a script, read from arbitrary bytes, says who sends which message, and
// what a fuzzer cannot make, a signature, is made good on the way. It is for
// tests only.
package fuzzpeers

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// Key is the n-th peer's key, the same in every run, so that saved inputs stay good.
func Key(n int) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(n + 1)}, ed25519.SeedSize))
}

// ID is the n-th peer's identity.
func ID(n int) workload.PeerID { return workload.PeerIDOf(Key(n).Public().(ed25519.PublicKey)) }

// Step is one message: of which kind, from whom, whether its signatures are left
// as they are, and its bytes.
type Step struct {
	Kind, From byte
	Raw        bool
	Body       []byte
}

// Script encodes steps. A body has at most 65,535 bytes.
func Script(steps ...Step) (out []byte) {
	for _, s := range steps {
		from := s.From
		if s.Raw {
			from |= 0x80
		}
		out = append(out, s.Kind, from)
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(s.Body))), s.Body...)
	}
	return out
}

// Read reads any bytes as at most that many steps of that many peers.
func Read(data []byte, peers byte, most int) (steps []Step) {
	for len(data) >= 4 && len(steps) < most {
		n := min(int(binary.BigEndian.Uint16(data[2:])), len(data)-4)
		steps = append(steps, Step{Kind: data[0], From: data[1] & 0x7f % peers, Raw: data[1]&0x80 != 0, Body: data[4 : 4+n]})
		data = data[4+n:]
	}
	return steps
}

// Handler is one protocol that a T serves.
type Handler[T any] struct {
	Proto string
	// Serve decodes a step's body, makes its signatures good and hands it over.
	Serve func(to T, ctx context.Context, s *Step) (any, error)
}

// Handle makes a Handler of a method. good, when set, makes a request's
// signatures its sender's.
func Handle[T, Req, Resp any](proto string, good func(from int, req *Req), fn func(T, context.Context, workload.PeerID, *Req) (*Resp, error)) Handler[T] {
	return Handler[T]{proto, func(to T, ctx context.Context, s *Step) (any, error) {
		req := new(Req)
		if err := wire.Unmarshal(s.Body, req); err != nil {
			return nil, err
		}
		if !s.Raw && good != nil {
			good(int(s.From), req)
		}
		return fn(to, ctx, ID(int(s.From)), req)
	}}
}
