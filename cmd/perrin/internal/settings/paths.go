// Package settings maps the flags, the environment and the commented file of a
// daemon onto one list of values, and tells where each came from.
package settings

import (
	"os"
	"path/filepath"
)

// SocketHelp says where the socket is when nobody names one.
const SocketHelp = "/run/perrin/api.sock as root, $XDG_RUNTIME_DIR/perrin/api.sock or the data folder's api.sock otherwise"

// DefaultData returns the data folder when nobody names one:
// /var/lib/perrin as root, $XDG_DATA_HOME/perrin or ~/.local/share/perrin otherwise.
func DefaultData(env func(string) string) string {
	if os.Geteuid() == 0 {
		return "/var/lib/perrin"
	}
	if dir := env("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "perrin")
	}
	return filepath.Join(env("HOME"), ".local", "share", "perrin")
}

// DefaultSocket returns the API socket when nobody names one.
func DefaultSocket(env func(string) string) string {
	if os.Geteuid() == 0 {
		return "/run/perrin/api.sock"
	}
	if dir := env("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "perrin", "api.sock")
	}
	return filepath.Join(DefaultData(env), "api.sock")
}
