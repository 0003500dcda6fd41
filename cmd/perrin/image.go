package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/oci/image"
	"github.com/perrin-mesh/perrin/workload/oci/source"
)

// imageKinds are the prefixes of a PROGRAM that is a container image.
var imageKinds = []workload.Kind{workload.OCI, workload.GVisor}

// imageName splits a PROGRAM such as oci:alpine; ok tells whether it is one.
func imageName(arg string) (kind workload.Kind, name string, ok bool) {
	for _, kind := range imageKinds {
		if name, is := strings.CutPrefix(arg, string(kind)+":"); is {
			return kind, name, true
		}
	}
	return "", "", false
}

// findImage reads the name of an image, which is looked for once a mesh is there.
func findImage(kind workload.Kind, text string) (program, error) {
	name, err := source.ParseName(text)
	if err != nil {
		return program{}, imageError(err)
	}
	short := name.Short()
	return program{Program: workload.Program{Kind: kind, Name: short[:min(len(short), 255)]}, image: &name}, nil
}

// imageError adds what to do about an image that cannot be had.
func imageError(err error) error {
	f := &failure{err: err, code: exitUsage}
	switch {
	case errors.Is(err, source.ErrName):
		f.hint = "write oci:alpine, oci:registry.example.com/app:1.2, oci:app@sha256:…, oci:./layout or oci:./image.tar"
	case errors.Is(err, source.ErrNotFound):
		f.code, f.hint = exitNotFound, "check the name and the tag; a local layout or archive is a path such as oci:./image.tar"
	case errors.Is(err, source.ErrDenied):
		f.code, f.hint = exitDenied, "`docker login` (or podman login --authfile ~/.docker/config.json) stores what the registry asks for, and private images look like missing ones"
	case errors.Is(err, source.ErrUnreachable):
		f.code, f.hint = exitUnavailable, "check the registry's name and the network; a layout or an archive needs neither"
	case errors.Is(err, image.ErrInvalid):
	case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		var p *fs.PathError
		if errors.As(err, &p) {
			return unreadable(p.Path, err)
		}
		return unreadable("the image", err)
	default:
		return err
	}
	return f
}

// imageLayers is how many layers are moved at once.
const imageLayers = 3

// putImage finds the job's image, stores what the mesh does not have of it yet
// and pins the spec to its digest and its architecture.
func (a *app) putImage(ctx context.Context, up *uploader, j *job) error {
	name := *j.program.image
	known := a.knownImages()
	p, arch, ok := known.get(name.Digest())
	if !ok || !up.hasAll(ctx, p) {
		src, err := source.Open(ctx, name, runtime.GOARCH)
		if err != nil {
			return imageError(err)
		}
		defer src.Close()
		if p, err = a.moveImage(ctx, up, src, known); err != nil {
			return imageError(err)
		}
		arch = src.Image.Platform.Architecture
		known.put(name.Digest(), p, arch)
		known.put(string(src.Image.Digest), p, arch)
	}
	p.Kind = j.program.Kind
	j.spec.Program = p
	j.program.arch = arch
	j.program.placeOn(&j.spec)
	return checkSpec(j.spec)
}

// moveImage stores the record and the layers that the mesh lacks.
func (a *app) moveImage(ctx context.Context, up *uploader, src *source.Source, known knownImages) (workload.Program, error) {
	img := src.Image
	pinned := src.Name.Short() + "@" + string(img.Digest)
	if src.Name.Path == "" {
		pinned = src.Name.Ref.Registry + "/" + src.Name.Ref.Repository + "@" + string(img.Digest)
	}
	p := workload.Program{Kind: workload.OCI, Name: pinned[:min(len(pinned), 255)], Layers: make([]workload.Ref, len(img.Layers))}
	raw, err := src.Record.Encode()
	if err != nil {
		return p, err
	}
	if p.Blob, err = up.to.PutBlob(ctx, bytes.NewReader(raw)); err != nil {
		return p, err
	}
	before, _, _ := known.get(string(img.Digest))
	var missing int64
	for i, l := range img.Layers {
		if len(before.Layers) == len(img.Layers) && up.has(ctx, before.Layers[i]) {
			p.Layers[i] = before.Layers[i]
		} else {
			missing += l.Size
		}
	}
	if missing > 0 {
		a.note("pulling %s (%s)", terminal.Clean(pinned, 300), terminal.Size(missing))
	}
	return p, up.layers(ctx, src, p.Layers)
}

// layers stores the layers whose ref is not known, several at a time.
func (u *uploader) layers(ctx context.Context, src *source.Source, refs []workload.Ref) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(imageLayers)
	for i := range refs {
		if !refs[i].IsZero() {
			continue
		}
		g.Go(func() error {
			r, err := src.Layer(ctx, i)
			if err != nil {
				return err
			}
			defer r.Close()
			refs[i], err = u.to.PutBlob(ctx, r)
			return err
		})
	}
	return g.Wait()
}

// hasAll reports whether the mesh has an image that it had before.
func (u *uploader) hasAll(ctx context.Context, p workload.Program) bool {
	return u.has(ctx, p.Blob) && !slices.ContainsFunc(p.Layers, func(l workload.Ref) bool { return !u.has(ctx, l) })
}

// has reports whether the mesh has a blob, and has the node here fetch it when
// only others do.
func (u *uploader) has(ctx context.Context, ref workload.Ref) bool {
	r, err := u.to.OpenBlob(ctx, ref)
	if err != nil {
		return false
	}
	r.Close()
	return true
}
