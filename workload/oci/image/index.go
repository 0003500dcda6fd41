package image

import (
	"fmt"
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// ParseIndex reads an index. Errors wrap ErrInvalid.
func ParseIndex(raw []byte) (*v1.Index, error) {
	var x v1.Index
	if err := decode("index", raw, MaxManifest, &x); err != nil {
		return nil, err
	}
	switch {
	case x.SchemaVersion != 2:
		return nil, fmt.Errorf("%w: an index of version %d; this version reads 2", ErrInvalid, x.SchemaVersion)
	case len(x.Manifests) > maxPlatforms:
		return nil, fmt.Errorf("%w: an index of %d manifests, at most %d", ErrInvalid, len(x.Manifests), maxPlatforms)
	}
	for _, d := range x.Manifests {
		if err := CheckDescriptor("a manifest of its index", d, MaxManifest); err != nil {
			return nil, err
		}
	}
	return &x, nil
}

// Choose returns the manifest of an index that is for linux on arch (amd64,
// arm64, …), or the only one for linux there is. Errors wrap ErrInvalid and list
// what there is.
func Choose(x *v1.Index, arch string) (v1.Descriptor, error) {
	var fit, linux []v1.Descriptor
	var have []string
	for _, d := range x.Manifests {
		p := d.Platform
		if !IsManifest(d.MediaType) || p == nil || p.OS == "unknown" { // attestations are "unknown"
			continue
		}
		have = append(have, p.OS+"/"+p.Architecture)
		if p.OS != "linux" {
			continue
		}
		linux = append(linux, d)
		if p.Architecture == arch {
			fit = append(fit, d)
		}
	}
	switch {
	case len(fit) > 0:
		return fit[0], nil
	case len(linux) == 1:
		return linux[0], nil
	}
	slices.Sort(have)
	have = slices.Compact(have)
	return v1.Descriptor{}, fmt.Errorf("%w: it is for %s, not for linux/%s", ErrInvalid, orNothing(have), arch)
}

func orNothing(have []string) string {
	if len(have) == 0 {
		return "no platform"
	}
	return strings.Join(have[:min(len(have), 16)], ", ")
}
