package rights

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/perrin-mesh/perrin/workload"
)

// prefix begins the text of every token.
const prefix = "perrin-token1"

// MaxText bounds the text of a token in bytes.
const MaxText = len(prefix) + MaxDepth*(2+(linkHead+MaxPayload+2)/3*4)

// linkHead is what precedes the payload in a link: its author and signature.
const linkHead = 32 + ed25519.SignatureSize

// Text is a token as a file holds it: the prefix, and each link in base64 after a dot.
func Text(chain []workload.Signed) string {
	var b strings.Builder
	b.WriteString(prefix)
	for _, s := range chain {
		b.WriteByte('.')
		link := append(append(append([]byte{}, s.By[:]...), s.Sig...), s.Payload...)
		b.WriteString(base64.RawURLEncoding.EncodeToString(link))
	}
	return b.String()
}

// Parse reads what Text wrote; space around it does not matter. It verifies nothing.
func Parse(text string) ([]workload.Signed, error) {
	text = strings.TrimSpace(text)
	if len(text) > MaxText {
		return nil, fmt.Errorf("%d characters, at most %d: %w", len(text), MaxText, ErrForm)
	}
	parts := strings.Split(text, ".")
	if parts[0] != prefix || len(parts) < 2 {
		return nil, fmt.Errorf("want text that begins with %q: %w", prefix+".", ErrForm)
	}
	if len(parts)-1 > MaxDepth {
		return nil, fmt.Errorf("%d links, at most %d: %w", len(parts)-1, MaxDepth, ErrDepth)
	}
	var chain []workload.Signed
	for i, part := range parts[1:] {
		raw, err := base64.RawURLEncoding.Strict().DecodeString(part)
		if err != nil || len(raw) <= linkHead || len(raw) > linkHead+MaxPayload {
			return nil, fmt.Errorf("link %d was mistyped or cut short: %w", i+1, ErrForm)
		}
		s := workload.Signed{Sig: raw[32:linkHead], Payload: raw[linkHead:]}
		copy(s.By[:], raw)
		chain = append(chain, s)
	}
	return chain, nil
}
