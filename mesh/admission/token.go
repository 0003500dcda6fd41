package admission

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// Bounds of an invitation.
const (
	MaxTokenAddrs = 8
	MaxTokenLen   = 2048 // characters of text
	maxTokenAddr  = 128  // bytes of one binary multiaddr
	secretSize    = 16
	checksumSize  = 4
)

const (
	tokenFamily = "perrin"
	tokenPrefix = "perrin1-"
)

// tokenEncoding has no capitals and no look-alikes of 0 and 1.
var tokenEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Invitation is what a new machine needs to join: the root key that names the
// mesh, the node that made the invitation and where it listens, and a one-time
// secret. Whoever holds its text may join, so it is never logged.
type Invitation struct {
	Root    workload.PeerID
	Issuer  workload.PeerID
	Addrs   []string // multiaddrs of the issuer, without /p2p/
	Secret  [secretSize]byte
	Expires time.Time // to the second
}

// tokenBody is the binary form of an invitation.
type tokenBody struct {
	Root    workload.PeerID  `cbor:"1,keyasint"`
	Issuer  workload.PeerID  `cbor:"2,keyasint"`
	Addrs   [][]byte         `cbor:"3,keyasint" max:"8"`
	Secret  [secretSize]byte `cbor:"4,keyasint"`
	Expires int64            `cbor:"5,keyasint"` // seconds
}

// Mesh is the mesh that the invitation is to.
func (v Invitation) Mesh() workload.MeshID { return MeshOf(v.Root) }

// Token returns the text form: "perrin1-", then base32 of the invitation and
// the first 4 bytes of its SHA-256.
func (v Invitation) Token() (string, error) {
	body := tokenBody{Root: v.Root, Issuer: v.Issuer, Secret: v.Secret, Expires: v.Expires.Unix()}
	if len(v.Addrs) == 0 || len(v.Addrs) > MaxTokenAddrs {
		return "", fmt.Errorf("invitation: want 1 to %d addresses, got %d", MaxTokenAddrs, len(v.Addrs))
	}
	for _, s := range v.Addrs {
		a, err := ma.NewMultiaddr(s)
		if err != nil || len(a.Bytes()) > maxTokenAddr {
			return "", fmt.Errorf("invitation: address %.120q is not a multiaddr of at most %d bytes", s, maxTokenAddr)
		}
		body.Addrs = append(body.Addrs, a.Bytes())
	}
	raw := wire.MustMarshal(body)
	sum := sha256.Sum256(raw)
	return tokenPrefix + tokenEncoding.EncodeToString(append(raw, sum[:checksumSize]...)), nil
}

// ParseToken reads the text form; white space inside it, as a terminal or a
// mail program adds, is dropped. The error wraps ErrTokenForm, ErrTokenVersion
// or ErrTokenTypo and never holds the token.
func ParseToken(text string) (Invitation, error) {
	var v Invitation
	if len(text) > MaxTokenLen {
		return v, fmt.Errorf("%d characters, at most %d: %w", len(text), MaxTokenLen, ErrTokenForm)
	}
	text = strings.ToLower(strings.Join(strings.Fields(text), ""))
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok {
		return v, notAToken(text)
	}
	raw, err := tokenEncoding.DecodeString(rest)
	if err != nil || len(raw) <= checksumSize || tokenEncoding.EncodeToString(raw) != rest { // spare bits of the last character count too
		return v, fmt.Errorf("invitation holds what no token does: %w", ErrTokenTypo)
	}
	raw, check := raw[:len(raw)-checksumSize], raw[len(raw)-checksumSize:]
	if sum := sha256.Sum256(raw); string(sum[:checksumSize]) != string(check) {
		return v, fmt.Errorf("checksum differs: %w", ErrTokenTypo)
	}
	var body tokenBody
	if err := wire.Unmarshal(raw, &body); err != nil {
		return v, fmt.Errorf("invitation's content does not decode: %w", ErrTokenForm)
	}
	return body.invitation()
}

// notAToken tells a token of another version from no token at all.
func notAToken(text string) error {
	version, _, found := strings.Cut(text, "-")
	if found && len(version) <= 16 && strings.HasPrefix(version, tokenFamily) {
		return fmt.Errorf("%q, this is %q: %w", version, strings.TrimSuffix(tokenPrefix, "-"), ErrTokenVersion)
	}
	return ErrTokenForm
}

func (b tokenBody) invitation() (Invitation, error) {
	v := Invitation{Root: b.Root, Issuer: b.Issuer, Secret: b.Secret, Expires: time.Unix(b.Expires, 0)}
	if len(b.Addrs) == 0 || b.Root.IsZero() || b.Issuer.IsZero() || b.Expires <= 0 {
		return Invitation{}, fmt.Errorf("invitation lacks a field: %w", ErrTokenForm)
	}
	for _, raw := range b.Addrs {
		a, err := ma.NewMultiaddrBytes(raw)
		if err != nil || len(raw) > maxTokenAddr {
			return Invitation{}, fmt.Errorf("invitation's address is not a multiaddr: %w", ErrTokenForm)
		}
		v.Addrs = append(v.Addrs, a.String())
	}
	return v, nil
}

// Check returns an error if the invitation cannot be used at now, before any
// node is asked. mesh is the mesh that this machine is already in, or zero.
func (v Invitation) Check(mesh workload.MeshID, now time.Time) error {
	switch {
	case !mesh.IsZero() && mesh != v.Mesh():
		return fmt.Errorf("invitation is to mesh %.12s, this machine is in %.12s: %w", v.Mesh(), mesh, ErrOtherMesh)
	case now.After(v.Expires.Add(ClockSkew)):
		return fmt.Errorf("invitation ended %s ago by this machine's clock, which shows %s UTC: %w",
			now.Sub(v.Expires).Round(time.Second), now.UTC().Format("2006-01-02 15:04"), ErrTokenExpired)
	}
	return nil
}

// secretHash is what an issuer keeps of a secret, and the key of its proofs.
func secretHash(secret [secretSize]byte) [32]byte {
	return sha256.Sum256(append([]byte("perrin/invitation/1\x00"), secret[:]...))
}

// inviteID names an invitation without telling its secret.
func inviteID(hash [32]byte) [16]byte {
	sum := sha256.Sum256(append([]byte("perrin/invitation-id/1\x00"), hash[:]...))
	return [16]byte(sum[:16])
}

// proof is HMAC-SHA-256 (RFC 2104) over who joins which mesh through whom
// under which name. It shows that the joiner knows the secret, is of no use to
// anyone else, and gives the secret to nobody.
func proof(hash [32]byte, mesh workload.MeshID, issuer, joiner workload.PeerID, name string) []byte {
	m := hmac.New(sha256.New, hash[:])
	m.Write([]byte("perrin/join/1\x00"))
	m.Write(mesh[:])
	m.Write(issuer[:])
	m.Write(joiner[:])
	m.Write([]byte(name))
	return m.Sum(nil)
}

func newSecret() (s [secretSize]byte, err error) {
	_, err = rand.Read(s[:])
	return s, err
}
