package image

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Command returns what to run: the entry point and then args, or without any
// the configuration's own (image-spec, "Entrypoint" and "Cmd"). The error wraps
// ErrInvalid when that is nothing.
func (i *Image) Command(args []string) ([]string, error) {
	if len(args) == 0 {
		args = i.Config.Cmd
	}
	out := append(append([]string(nil), i.Config.Entrypoint...), args...)
	if len(out) == 0 || out[0] == "" {
		return nil, fmt.Errorf("%w: it says no program; name one after it", ErrInvalid)
	}
	return out, nil
}

// DefaultPath is where programs are looked up in an image that does not say.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Environ returns the configuration's variables, overridden by own, both as
// NAME=value, with a PATH.
func (i *Image) Environ(own []string) []string {
	var order []string
	value := map[string]string{}
	for _, list := range [][]string{{"PATH=" + DefaultPath}, i.Config.Env, own} {
		for _, e := range list {
			name, text, ok := strings.Cut(e, "=")
			if !ok || name == "" {
				continue
			}
			if _, known := value[name]; !known {
				order = append(order, name)
			}
			value[name] = text
		}
	}
	out := make([]string, len(order))
	for k, name := range order {
		out[k] = name + "=" + value[name]
	}
	return out
}

// User is whom a program runs as.
type User struct {
	UID, GID int
	Home     string // "" where the image does not say
}

// FindUser reads the configuration's user: "", "uid", "name", "uid:gid" or
// "name:group". Names are looked up in passwd and group, the image's files of
// these names, which may be nil. Errors wrap ErrInvalid.
func (i *Image) FindUser(passwd, group io.Reader) (User, error) {
	name, groupName, hasGroup := strings.Cut(i.Config.User, ":")
	if name == "" {
		name = "0"
	}
	uid, numeric := number(name)
	u := User{UID: uid}
	found := false
	err := entries(passwd, func(f []string) bool {
		id, ok := entryID(f, 7)
		if ok && (f[0] == name || numeric && id == uid) {
			gid, _ := number(f[3])
			u, found = User{UID: id, GID: max(gid, 0), Home: cleanHome(f[5])}, true
		}
		return found
	})
	switch {
	case err != nil:
		return u, fmt.Errorf("%w: /etc/passwd: %w", ErrInvalid, err)
	case !found && !numeric:
		return u, fmt.Errorf("%w: its user %.80q is not in its /etc/passwd", ErrInvalid, name)
	case !hasGroup || groupName == "":
		return u, nil
	}
	u.GID, err = findGroup(groupName, group)
	return u, err
}

func findGroup(name string, group io.Reader) (int, error) {
	if gid, ok := number(name); ok {
		return gid, nil
	}
	gid, found := 0, false
	err := entries(group, func(f []string) bool {
		id, ok := entryID(f, 3)
		if ok && f[0] == name {
			gid, found = id, true
		}
		return found
	})
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w: /etc/group: %w", ErrInvalid, err)
	case !found:
		return 0, fmt.Errorf("%w: its group %.80q is not in its /etc/group", ErrInvalid, name)
	}
	return gid, nil
}

// entryID reads the third field of an entry of at least n fields.
func entryID(f []string, n int) (int, bool) {
	if len(f) < n {
		return 0, false
	}
	return number(f[2])
}

func cleanHome(home string) string {
	if !strings.HasPrefix(home, "/") || len(home) > maxText || strings.ContainsRune(home, 0) {
		return ""
	}
	return home
}

// number reads a user's or group's number, which has 31 bits.
func number(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 31)
	return int(n), err == nil
}

// maxEntries bounds the bytes of /etc/passwd and /etc/group that are read.
const maxEntries = 1 << 20

// entries calls visit with the fields of each line until it returns true.
func entries(r io.Reader, visit func(fields []string) bool) error {
	if r == nil {
		return nil
	}
	lines := bufio.NewScanner(io.LimitReader(r, maxEntries))
	for lines.Scan() {
		if visit(strings.Split(lines.Text(), ":")) {
			return nil
		}
	}
	return lines.Err()
}
