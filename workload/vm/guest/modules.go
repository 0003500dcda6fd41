package guest

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// modules are the loadable drivers of the running kernel below one folder.
type modules struct {
	files  map[string]string   // name to path
	deps   map[string][]string // from modules.dep, if there is one
	loaded map[string]bool
}

// newModules looks for drivers of this kernel in dir, which need not be there.
func newModules(dir string) *modules {
	m := &modules{files: map[string]string{}, loaded: map[string]bool{}}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return m
	}
	dir = filepath.Join(dir, unix.ByteSliceToString(name.Release[:]))
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.Contains(d.Name(), ".ko") {
			m.files[moduleName(path)] = path
		}
		return nil // what cannot be read is not there
	})
	if text, err := os.ReadFile(filepath.Join(dir, "modules.dep")); err == nil {
		m.deps = parseDeps(string(text))
	}
	return m
}

// moduleName is the kernel's name of a driver's file.
func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// parseDeps reads modules.dep: "kernel/x/a.ko: kernel/y/b.ko kernel/y/c.ko".
func parseDeps(text string) map[string][]string {
	deps := map[string][]string{}
	for line := range strings.Lines(text) {
		file, rest, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		for _, dep := range strings.Fields(rest) {
			deps[moduleName(file)] = append(deps[moduleName(file)], moduleName(dep))
		}
	}
	return deps
}

// load loads what is there of the named drivers, after what they need. A
// driver that is built in has no file; that one is missing shows when its
// device or file system does.
func (m *modules) load(names ...string) {
	for _, name := range names {
		path := m.files[name]
		if path == "" || m.loaded[name] {
			continue
		}
		m.loaded[name] = true
		m.load(m.needs(name, path)...)
		if err := insert(path); err != nil && err != unix.EEXIST {
			say("module %s: %v", name, err)
		}
	}
}

func (m *modules) needs(name, path string) []string {
	if m.deps != nil {
		return m.deps[name]
	}
	image, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return namedDeps(image)
}

// namedDeps reads the depends field that a driver carries itself (modinfo).
func namedDeps(image []byte) []string {
	_, rest, ok := bytes.Cut(image, []byte("\x00depends="))
	if !ok {
		return nil
	}
	list, _, _ := bytes.Cut(rest, []byte{0})
	return strings.FieldsFunc(strings.ReplaceAll(string(list), "-", "_"), func(r rune) bool { return r == ',' })
}

// insert gives the kernel one driver; it unpacks compressed ones itself.
func insert(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if !strings.HasSuffix(path, ".ko") {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	return unix.FinitModule(int(f.Fd()), "", flags)
}
