// Package inside is the half of the sandbox that runs in the sandbox: the init
// that builds the view and becomes pid 1 of the new namespaces, the entry that
// gives up every privilege and becomes the program, and the self-test that
// looks for holes. It is linked into the shim, so it imports little.
//
// A sandbox is three steps of one binary. The daemon starts the init in new
// user, mount, pid, network, ipc, uts and cgroup namespaces as an unprivileged
// user of the host. The init reads one Config from its control pipe, builds a
// minimal root and pivots into it, and starts the entry, which joins the
// cgroups, sets the limits, drops all capabilities, sets no_new_privs, confines
// itself with Landlock and seccomp and executes the program. The init stays
// outside the cgroups, so that the limits are exactly the program's, waits for
// the program, reports how it ended and exits; the kernel then kills everything
// else in the pid namespace. The init also exits when its control pipe closes,
// so that no program outlives a daemon that died.
package inside
