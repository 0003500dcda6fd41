package source

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"

	"oras.land/oras-go/v2/registry"
)

// Name is an image as a user names it, read.
type Name struct {
	Path string // of a layout folder or archive; "" for a registry
	Tag  string // in a layout or archive; "" is the only image there

	Ref registry.Reference // of a registry
}

// ParseName reads what follows "oci:". A path begins with / or . or ends in
// .tar, and may be followed by :TAG or @sha256:…; everything else is a name in a
// registry, where "alpine" is docker.io/library/alpine:latest as for Docker.
func ParseName(text string) (Name, error) {
	if text == "" || len(text) > maxName || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' }) {
		return Name{}, fmt.Errorf("%w: %.80q: want NAME[:TAG], NAME@sha256:… or the path of a layout or archive", ErrName, text)
	}
	if isPath(text) {
		return parsePath(text), nil
	}
	full := normal(text)
	ref, err := registry.ParseReference(full)
	if err != nil {
		return Name{}, fmt.Errorf("%w: %.200q: %w", ErrName, text, err)
	}
	if ref.Reference == "" {
		ref.Reference = "latest"
	}
	return Name{Ref: ref}, nil
}

const maxName = 4096

func isPath(text string) bool {
	return filepath.IsAbs(text) || text[0] == '.' || strings.HasSuffix(withoutTag(text), ".tar")
}

// withoutTag cuts :TAG or @DIGEST off a path.
func withoutTag(text string) string {
	if at := strings.LastIndex(text, "@sha256:"); at > 0 {
		return text[:at]
	}
	if colon := strings.LastIndexByte(text, ':'); colon > strings.LastIndexByte(text, '/') {
		return text[:colon]
	}
	return text
}

func parsePath(text string) Name {
	path := withoutTag(text)
	if path == "" {
		path = text
	}
	return Name{Path: path, Tag: strings.TrimLeft(text[len(path):], ":@")}
}

// normal completes the short names of Docker: alpine is in docker.io/library.
func normal(text string) string {
	first, rest, found := strings.Cut(text, "/")
	isHost := found && (strings.ContainsAny(first, ".:") || first == "localhost")
	switch {
	case !isHost && !found:
		return "docker.io/library/" + text
	case !isHost:
		return "docker.io/" + text
	case (first == "docker.io" || first == "index.docker.io") && !strings.Contains(rest, "/"):
		return "docker.io/library/" + rest
	}
	return text
}

// loopback reports whether a registry is on this machine.
func loopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// Short returns what people call the image: the last part of its name.
func (n Name) Short() string {
	if n.Path != "" {
		return strings.TrimSuffix(filepath.Base(n.Path), ".tar")
	}
	return n.Ref.Repository[strings.LastIndexByte(n.Ref.Repository, '/')+1:]
}

// Digest returns the digest that the name itself pins, or "".
func (n Name) Digest() string {
	for _, s := range []string{n.Tag, n.Ref.Reference} {
		if strings.HasPrefix(s, "sha256:") {
			return s
		}
	}
	return ""
}
