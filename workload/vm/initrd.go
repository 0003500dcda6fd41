package vm

import (
	"errors"
	"os"

	"github.com/perrin-mesh/perrin/workload/vm/cpio"
	"github.com/perrin-mesh/perrin/workload/vm/guestwire"
)

// writeInitrd makes the initial RAM disk at path: the archives one after the
// other, then ours.
func writeInitrd(path string, archives []string, init []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Chmod(0o644), f.Close()) }()
	w := cpio.NewWriter(f)
	for _, a := range archives {
		if err := w.Append(a); err != nil {
			return err
		}
	}
	w.Device("dev/console", 0o600, 5, 1) // for the kernel to open as the init's streams
	w.Device("dev/null", 0o666, 1, 3)
	w.File(guestwire.InitPath[1:], 0o755, init)
	return w.Close()
}
