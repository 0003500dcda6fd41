package unpack

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
)

// folder returns the folder that name leads to, links followed with / at the
// root, and makes what is missing.
func (u *Unpacker) folder(name string) (string, error) {
	if u.folders[name] {
		return name, nil
	}
	at, rest, hops := ".", strings.Split(name, "/"), 0
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, part)
		link, err := u.step(next)
		if err != nil {
			return "", err
		}
		if link == "" {
			at = next
			continue
		}
		if hops++; hops > maxHops {
			return "", refuse("%.200q goes through more than %d links", name, maxHops)
		}
		if strings.HasPrefix(link, "/") {
			at = "."
		}
		rest = append(strings.Split(link, "/"), rest...)
	}
	return at, nil
}

// step looks at one part of a path, whose folder is known: "" is a folder, which
// is made when it is missing; else it is a link's target.
func (u *Unpacker) step(name string) (link string, err error) {
	if u.folders[name] {
		return "", nil
	}
	info, err := u.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", u.missing(name)
	case err != nil:
		return "", hostile(err)
	case info.Mode().Type() == fs.ModeSymlink:
		return u.root.Readlink(name)
	case !info.IsDir():
		return "", refuse("%.200q is a file, and something lies below it", name)
	}
	u.folders[name] = true
	return "", nil
}

// missing makes a folder that no entry describes.
func (u *Unpacker) missing(name string) error {
	if strings.Count(name, "/") > u.limits.Depth {
		return refuse("%.200q is more than %d folders deep", name, u.limits.Depth)
	}
	if err := u.count(0); err != nil {
		return err
	}
	if err := u.root.Mkdir(name, 0o755); err != nil {
		return hostile(err)
	}
	u.folders[name] = true
	u.note(name)
	return u.root.Chmod(name, 0o755)
}

// in opens a folder that is known, and remembers it for the next entry.
func (u *Unpacker) in(dir string) (*os.Root, error) {
	if u.at != nil && u.atName == dir {
		return u.at, nil
	}
	u.forget()
	at, err := u.root.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	u.at, u.atName = at, dir
	return at, nil
}

func (u *Unpacker) forget() {
	if u.at != nil {
		u.at.Close()
		u.at = nil
	}
}

// note remembers that the layer at hand made name and what is above it.
func (u *Unpacker) note(name string) {
	for ; name != "." && !u.mine[name]; name = path.Dir(name) {
		u.mine[name] = true
	}
}

// remove removes what is at base, whatever it is. Nothing there is fine.
func (u *Unpacker) remove(dir, base string) error {
	at, err := u.in(dir)
	if err != nil {
		return err
	}
	info, err := at.Lstat(base)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.IsDir():
		return at.Remove(base)
	}
	u.folders = map[string]bool{".": true} // one that is gone may come back as a link
	return at.RemoveAll(base)
}

// Whiteouts (image-spec, "Whiteouts" and "Opaque Whiteout").
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
	internal = ".wh..wh." // of the file system that whiteouts come from
)

// hide removes from the lower layers what a whiteout names. What the layer
// itself holds stays.
func (u *Unpacker) hide(dir, base string) error {
	if base == opaque {
		return u.hideAll(dir)
	}
	if strings.HasPrefix(base, internal) {
		return nil
	}
	name := strings.TrimPrefix(base, whiteout)
	if name == "" || name == "." || name == ".." {
		return refuse("%.200q is a whiteout of the folder it lies in", path.Join("/", dir, base))
	}
	if full := path.Join(dir, name); u.mine[full] {
		return u.hideBelow(full)
	}
	return u.remove(dir, name)
}

// hideAll empties a folder of what the lower layers put there.
func (u *Unpacker) hideAll(dir string) error {
	if dir == "." {
		return refuse("it is a whiteout of /, the whole image below it")
	}
	return u.hideBelow(dir)
}

// hideBelow removes what lies below name and is not of the layer at hand.
func (u *Unpacker) hideBelow(name string) error {
	info, err := u.root.Lstat(name)
	if err != nil || !info.IsDir() {
		return err
	}
	names, err := u.names(name)
	if err != nil {
		return err
	}
	for _, base := range names {
		if full := path.Join(name, base); u.mine[full] {
			err = u.hideBelow(full)
		} else {
			err = u.remove(name, base)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (u *Unpacker) names(dir string) ([]string, error) {
	f, err := u.root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// Fit makes the folders and files that a sandbox mounts something on or that
// every program expects, where the image lacks them. A link or anything else in
// place of one is replaced; files keep the image's content.
func (u *Unpacker) Fit(folders []string, files map[string]string) error {
	defer u.forget()
	u.mine = map[string]bool{}
	for _, name := range folders {
		info, err := u.root.Lstat(name)
		if err == nil && info.IsDir() {
			continue
		}
		if err := u.remove(path.Dir(name), path.Base(name)); err != nil {
			return err
		}
		if err := errors.Join(u.root.Mkdir(name, 0o755), u.root.Chmod(name, 0o755)); err != nil {
			return err
		}
	}
	for name, text := range files {
		if _, err := u.root.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := errors.Join(u.root.WriteFile(name, []byte(text), 0o644), u.root.Chmod(name, 0o644)); err != nil {
			return err
		}
	}
	return nil
}
