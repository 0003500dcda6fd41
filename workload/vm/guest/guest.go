// Package guest is the init of a node's virtual machines: what turns a
// stranger's kernel and root file system into something that runs one command
// after another.
//
// The kernel starts it from the initial RAM disk. It loads the drivers it needs
// from the parts' own /lib/modules, mounts the root file system read-only, and
// says Ready on a virtio serial port (package guestwire). Each attempt gets an
// overlay of the root, scratch and output folders in memory, and namespaces of
// its own, so that nothing of it is left for the next one. The command is root
// there: the wall is the machine, not its users.
//
// It trusts the node, and nobody trusts it.
package guest

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload/vm/guestwire"
)

// roleAttempt is the argument of the process that is an attempt's own init.
const roleAttempt = "attempt"

// Main is the life of the process. It returns its exit code.
func Main() int {
	if len(os.Args) > 1 && os.Args[1] == roleAttempt {
		return attemptInit()
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "perrin-guest: the init of a Perrin node's virtual machine, not started by hand")
		return 2
	}
	if err := run(); err != nil {
		say("%v", err)
	}
	unix.Sync()
	time.Sleep(restartAfter)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) // which ends a machine of ours
	return 1
}

// restartAfter lets the console's last line out.
const restartAfter = 50 * time.Millisecond

// say puts a line on the console, where the node looks when a machine breaks off.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "\n"+guestwire.Said+": "+format+"\n", args...)
}

func run() error {
	m, err := boot()
	if err != nil {
		return err
	}
	defer m.port.Close()
	return m.serve()
}
