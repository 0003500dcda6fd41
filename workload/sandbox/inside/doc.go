// Package inside is the half of the sandbox that runs in the sandbox: what makes
// its namespaces and its view, becomes its pid 1 and then the program, and the
// self-test that looks for holes. It is linked into the shim, so it imports
// little.
//
// Three processes follow one another, and only the last is an execve. The
// launcher was a start of the shim, which forked and left: no thread, no runtime,
// no memory of the node. For each sandbox it forks a pid 1 in new namespaces,
// which knows nothing yet and waits on a socket of its own. What comes on it is a
// Plan, a list of system calls: they show it what it is to see, take from it what
// it has on the host, and give it a user namespace; then it forks, the child
// joins the cgroups, sets the limits, drops all capabilities, sets no_new_privs,
// confines itself with Landlock and seccomp and executes the program. pid 1 stays
// outside the cgroups, so that the limits are exactly the program's, waits for
// the program, reports how it ended and exits; the kernel then kills everything
// else in the pid namespace. It also exits when its socket closes, so that no
// program outlives a daemon that died.
//
// The user namespace comes last. So the mount, pid, network, ipc and host name
// namespaces belong to one that the program is not in: even with every capability
// of its own it could change none of them. An ordinary user's launcher lives in a
// user namespace itself, to be allowed to make the others.
package inside
