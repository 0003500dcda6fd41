package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"

	"github.com/perrin-mesh/perrin/workload"
)

// knownImages is a folder of this user's in which is written which blobs an image
// became, so that an image which the mesh still has is not read again. Losing it
// costs a pull. "" is none.
type knownImages string

// knownImage is what is written of one.
type knownImage struct {
	Program workload.Program `json:"program"`
	Arch    string           `json:"arch"`
}

func (a *app) knownImages() knownImages {
	dir := a.env("XDG_CACHE_HOME")
	if dir == "" {
		home := a.env("HOME")
		if home == "" {
			return ""
		}
		dir = filepath.Join(home, ".cache")
	}
	if !filepath.IsAbs(dir) {
		return ""
	}
	return knownImages(filepath.Join(dir, "perrin", "images"))
}

func (k knownImages) path(digest string) string {
	return filepath.Join(string(k), runtime.GOARCH+"-"+digest[len("sha256:"):])
}

// maxKnown bounds the bytes of one entry.
const maxKnown = 64 << 10

// get returns what an image of that digest became. The blobs may be gone.
func (k knownImages) get(digest string) (p workload.Program, arch string, ok bool) {
	if k == "" || len(digest) != len("sha256:")+64 {
		return p, "", false
	}
	info, err := os.Stat(k.path(digest))
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxKnown {
		return p, "", false
	}
	raw, err := os.ReadFile(k.path(digest))
	var e knownImage
	if err != nil || json.Unmarshal(raw, &e) != nil || e.Program.Kind != workload.OCI || len(e.Program.Layers) == 0 {
		return p, "", false
	}
	return e.Program, e.Arch, true
}

// put writes what an image became. A failure only costs time later.
func (k knownImages) put(digest string, p workload.Program, arch string) {
	raw, err := json.Marshal(knownImage{Program: p, Arch: arch})
	if k == "" || len(digest) != len("sha256:")+64 || err != nil || os.MkdirAll(string(k), 0o700) != nil {
		return
	}
	tmp, err := os.CreateTemp(string(k), ".new-")
	if err != nil {
		return
	}
	_, err = tmp.Write(raw)
	if tmp.Close() != nil || err != nil || os.Rename(tmp.Name(), k.path(digest)) != nil {
		os.Remove(tmp.Name())
	}
}
