package node

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"

	"github.com/perrin-mesh/perrin/consensus/store"
	"github.com/perrin-mesh/perrin/mesh/admission"
)

// ErrDamaged is returned when the keys of a data folder do not read.
var ErrDamaged = errors.New("the keys of this node are damaged")

const (
	hintWritable = "the daemon keeps the mesh's ledger there; name a folder it may write with --data"
	hintRoom     = "make room on that disk, or name a folder on another with --data"
)

var startHints = []struct {
	cause error
	hint  string
}{
	{ErrNoIdentity, "found a mesh with `perrin init`, or enter one with `perrin join TOKEN`"},
	{ErrRunning, "stop the daemon first; `perrin drain` waits until what runs here has ended"},
	{ErrOnlyVoter, "add nodes until the cell has three voters (`perrin status`), all of which are up, then try again"},
	{ErrDamaged, "put a backup of its folder back, or move it away and enter anew with `perrin join TOKEN`"},
	{store.ErrInUse, "a daemon runs on this folder already; `perrin status` asks it, --data names another folder"},
	{store.ErrCorrupt, "with other voters in the cell nothing is lost: move the folder away and join anew with `perrin join TOKEN`; a cell's only voter needs a backup of it"},
	{store.ErrFormat, "start the version of perrin that wrote the folder, or a later one"},
	{store.ErrOldFormat, "start the version of perrin that wrote the folder and let its work end; then move the folder away, and `perrin init` or `perrin join` anew with this one"},
	{store.ErrNoSpace, hintRoom},
	{store.ErrReadOnly, hintWritable},
	{syscall.EADDRINUSE, "another program has that port; name another with --listen"},
	{syscall.ENOSPC, hintRoom},
	{syscall.EROFS, hintWritable},
	{fs.ErrPermission, "start the daemon as the user that owns the folder, or name another with --data"},
}

// StartHint says what to do about an error of Init, Join, New or Run, or
// returns "".
func StartHint(err error) string {
	if hint := admission.Hint(err); hint != "" && !errors.Is(err, ErrDamaged) {
		return hint
	}
	for _, h := range startHints {
		if errors.Is(err, h.cause) || saysErrno(err, h.cause) {
			return h.hint
		}
	}
	return ""
}

// saysErrno reports whether err only tells of a cause of the system's, as the
// errors of listening do, which wrap nothing.
func saysErrno(err, cause error) bool {
	var no syscall.Errno
	return errors.As(cause, &no) && err != nil && strings.Contains(err.Error(), no.Error())
}
