package inside

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ProgramPlan is for a sandbox that the launcher has made: it gets its view,
// network and user, and the program is started in it. fds are the descriptors
// to send along.
func ProgramPlan(cfg *Config) (p *Plan, fds []int, err error) {
	mounts, err := cleanTargets(cfg.Mounts)
	if err != nil {
		return nil, nil, err
	}
	filter, err := seccompFilter(freedom{affinity: cfg.Limits.Pinned || len(cfg.Limits.CPUs) == 0, memory: cfg.Limits.Data == 0})
	if err != nil {
		return nil, nil, err
	}
	p = &Plan{}
	given := func(fd int) arg { fds = append(fds, fd); return p.slot() }
	keep := each(cfg.Keep, given) // first: they get the numbers from 3 on, which the program sees
	var streams [3]arg
	for i, fd := range cfg.Streams {
		if fd != 0 {
			streams[i] = given(fd)
		}
	}
	cgroups := each(cfg.Cgroups, given)

	p.do("set the host name", unix.SYS_SETHOSTNAME, p.str(hostname), num(len(hostname)))
	p.network(cfg, given)
	p.buildView(cfg, mounts, given)
	p.becomeUser(&cfg.User)

	p.pin(cfg.Limits.CPUs)
	child := p.slot()
	fork := p.step(stepFork)
	fork.save = child.value + 1
	at := len(p.ops) - 1
	p.arrangeFiles(cfg, keep, streams)
	p.enter(cfg, cgroups, filter)
	p.ops[at].args[0] = uint64(len(p.ops))
	p.guard(child)
	return p, fds, nil
}

func each(fds []int, f func(int) arg) []arg {
	var out []arg
	for _, fd := range fds {
		out = append(out, f(fd))
	}
	return out
}

func (p *Plan) network(cfg *Config, given func(int) arg) {
	if cfg.NetFD == 0 {
		p.do("make a network namespace", unix.SYS_UNSHARE, num(unix.CLONE_NEWNET))
		return
	}
	fd := given(cfg.NetFD)
	p.do("enter the network namespace", unix.SYS_SETNS, fd, num(unix.CLONE_NEWNET))
	p.close(fd)
}

// buildView shows the mounts, /tmp and /proc, in the launcher's root or in one
// of its own.
func (p *Plan) buildView(cfg *Config, mounts []Mount, given func(int) arg) {
	var own []tree
	for _, m := range mounts {
		if m.FD != 0 {
			own = append(own, tree{fd: given(m.FD), target: m.Target, dir: m.Dir})
		} else {
			own = append(own, p.openTree(m))
		}
	}
	root, trees := here, []tree(nil)
	if cfg.Root != nil {
		root, trees = p.overlay(cfg.View, cfg.Root, given)
	}
	if cfg.User.Drop { // what is made from here on is the program's
		p.do("group of files", unix.SYS_SETFSGID, num(cfg.User.GID))
		p.do("user of files", unix.SYS_SETFSUID, num(cfg.User.UID))
	}
	switch {
	case cfg.Runtime:
		p.workFolder(root, cfg.Dir)
		var aside []tree
		for i, t := range own {
			if mounts[i].Aside {
				aside = append(aside, t)
			} else {
				p.place(root, t)
			}
		}
		own, root = aside, p.surround(root, cfg.View, &cfg.User)
	case cfg.Root != nil:
		p.furnish(root, cfg.View, cfg.Dir, &cfg.User)
	case !cfg.Built:
		root, trees = p.newRoot(cfg.View, &cfg.User)
	}
	size := max(cfg.Limits.TmpSize, 1)
	tmp := p.tmpfs("/tmp", size, int(size>>10)+minInodes, "0777", &cfg.User)
	trees = append(trees, tree{fd: tmp, target: "/tmp", dir: true})
	for _, t := range append(trees, own...) {
		p.place(root, t)
	}
	p.place(root, p.proc(cfg.Runtime))
	if !cfg.Built {
		p.pivot(root, cfg.Root == nil || cfg.Runtime)
	}
}

// minInodes is how many files the smallest /tmp may have; another fits for each
// KiB, which is what the kernel keeps of one.
const minInodes = 1024

// becomeUser gives up what the launcher is on the host, and makes the user
// namespace in which the program is UID and GID and owns nothing.
func (p *Plan) becomeUser(u *User) {
	if u.Drop {
		// Some machines let none but an administrator make user namespaces, so
		// that stays until it is made.
		p.do("keep capabilities", unix.SYS_PRCTL, num(unix.PR_SET_KEEPCAPS), num(1))
		p.do("leave all groups", unix.SYS_SETGROUPS, num(0), num(0))
		p.do("change the group", unix.SYS_SETRESGID, num(u.GID), num(u.GID), num(u.GID))
		p.do("change the user", unix.SYS_SETRESUID, num(u.UID), num(u.UID), num(u.UID))
		admin := uint64(1)<<unix.CAP_SYS_ADMIN | uint64(1)<<unix.CAP_SYS_ADMIN<<32 // effective and permitted
		p.do("keep one capability", unix.SYS_CAPSET, p.words(unix.LINUX_CAPABILITY_VERSION_3), p.words(admin, 0, 0))
	}
	p.do("make a user namespace", unix.SYS_UNSHARE, num(unix.CLONE_NEWUSER))
	p.do("set dumpable", unix.SYS_PRCTL, num(unix.PR_SET_DUMPABLE), num(1)) // or its files in /proc are root's
	for _, f := range [][2]string{
		{"setgroups", "deny"}, {"uid_map", idMap(u.In[0], u.UID)}, {"gid_map", idMap(u.In[1], u.GID)},
	} {
		fd := p.get("open "+f[0], unix.SYS_OPENAT, here, p.str("/proc/self/"+f[0]), num(unix.O_WRONLY|unix.O_CLOEXEC), num(0))
		p.do("write "+f[0]+" "+f[1], unix.SYS_WRITE, fd, p.bytes([]byte(f[1])), num(len(f[1])))
		p.close(fd)
	}
	p.do("set undumpable", unix.SYS_PRCTL, num(unix.PR_SET_DUMPABLE), num(0))
}

func idMap(inside, host int) string { return strconv.Itoa(inside) + " " + strconv.Itoa(host) + " 1" }

// arrangeFiles leaves the program 0, 1, 2 and what Keep names; everything else
// closes at execve.
func (p *Plan) arrangeFiles(cfg *Config, keep []arg, streams [3]arg) {
	for i, s := range streams {
		if cfg.Streams[i] != 0 {
			p.do("streams", unix.SYS_DUP3, s, num(i), num(0))
		}
	}
	p.do("mark descriptors", unix.SYS_CLOSE_RANGE, num(3), num(^uint32(0)), num(unix.CLOSE_RANGE_CLOEXEC))
	for _, s := range keep {
		p.do("keep a descriptor", unix.SYS_FCNTL, s, num(unix.F_SETFD), num(0))
	}
}

// enter sets the limits, gives up every privilege and executes the program. It
// happens in the program's own process.
func (p *Plan) enter(cfg *Config, cgroups []arg, filter []unix.SockFilter) {
	p.do("start a session", unix.SYS_SETSID)
	dir := cfg.Dir
	if cfg.Runtime { // it is the program's, in the Root
		dir = "/"
	}
	p.do(fmt.Sprintf("enter %q", dir), unix.SYS_CHDIR, p.str(dir))
	var ruleset arg
	var rules bool
	if !cfg.Runtime {
		ruleset, rules = p.landlockRuleset(cfg.Root != nil, cfg.Mounts)
	}
	p.setLimits(&cfg.Limits)
	for _, fd := range cgroups {
		p.do("join a cgroup", unix.SYS_WRITE, fd, p.str("0"), num(1)) // the writer itself
	}
	p.do("hide the cgroup", unix.SYS_UNSHARE, num(unix.CLONE_NEWCGROUP))
	if cfg.Runtime {
		p.do("set no_new_privs", unix.SYS_PRCTL, num(unix.PR_SET_NO_NEW_PRIVS), num(1), num(0), num(0), num(0))
	} else {
		p.dropPrivileges()
	}
	if rules {
		p.do("landlock", unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, num(0))
	}
	p.step(stepDefaults)
	p.do("unblock signals", unix.SYS_RT_SIGPROCMASK, num(unix.SIG_SETMASK), p.words(0), num(0), num(8))
	path := cfg.Path
	if cfg.Self {
		path = "/proc/self/exe"
	}
	search := cfg.Search
	if strings.Contains(path, "/") {
		search = nil
	}
	args, env := p.list(cfg.Args), p.list(cfg.Env)
	if !cfg.Runtime {
		p.seccompEnforce(filter)
	}
	p.execute(path, search, args, env)
}

// guard leaves pid 1 with nothing that it does not need, and has it watch.
func (p *Plan) guard(child arg) {
	p.do("close", unix.SYS_CLOSE_RANGE, num(3), num(sandboxFD-1), num(0))
	p.do("close", unix.SYS_CLOSE_RANGE, num(sandboxFD+1), num(^uint32(0)), num(0))
	p.dropCapabilities()
	p.step(stepReport, num(Started))
	p.step(stepWatch, child)
}

// setLimits sets what rlimits and affinity can bound.
func (p *Plan) setLimits(l *Limits) {
	for _, lim := range []struct {
		which int
		max   int64
	}{
		{unix.RLIMIT_FSIZE, l.FileSize}, {unix.RLIMIT_NOFILE, l.Files}, {unix.RLIMIT_NPROC, l.Procs}, {unix.RLIMIT_DATA, l.Data},
	} {
		if lim.max != 0 {
			p.setLimit(lim.which, uint64(lim.max))
		}
	}
	// With a limit of 0 a core_pattern that is a pipe still gets the core; 1 is
	// how the kernel knows that there is to be none (fs/coredump.c).
	p.setLimit(unix.RLIMIT_CORE, 1)
	for _, which := range []int{unix.RLIMIT_MSGQUEUE, unix.RLIMIT_RTPRIO, unix.RLIMIT_NICE} {
		p.setLimit(which, 0)
	}
	p.schedule(l)
}

// pin keeps pid 1 and the program on CPUs; none is any.
func (p *Plan) pin(cpus []int) {
	if len(cpus) == 0 {
		return
	}
	var set unix.CPUSet
	for _, c := range cpus {
		set.Set(c)
	}
	mask := make([]uint64, len(set))
	for i, w := range set {
		mask[i] = uint64(w)
	}
	p.do(fmt.Sprintf("pin to CPUs %v", cpus), unix.SYS_SCHED_SETAFFINITY, num(0), num(len(mask)*8), p.words(mask...))
}

// setLimit lowers one limit for the program, hard and soft; it raises none.
func (p *Plan) setLimit(which int, limit uint64) {
	var old unix.Rlimit
	if unix.Getrlimit(which, &old) == nil { // the launcher has the same as the daemon
		limit = min(limit, old.Max)
	}
	p.do(fmt.Sprintf("set limit %d", which), unix.SYS_PRLIMIT64, num(0), num(which), p.words(limit, limit), num(0))
}
