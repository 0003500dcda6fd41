package inside

// Role names, the first argument of the shim.
const (
	RoleLaunch = "sandbox"
	RoleProbe  = "probe"
	RoleRoot   = "probe-root"
	RoleGVisor = "probe-gvisor"
)

// ShimName is argv[0] of the shim.
const ShimName = "perrin-shim"

// UID and GID are the program's user and group inside the sandbox.
const (
	UID = 1000
	GID = 1000
)

// Mount is one part of the view. Exactly one source is used: FD when it is not
// zero (a detached mount made by the daemon), else Source.
type Mount struct {
	FD     int
	Source string
	Target string // absolute inside the sandbox
	Write  bool
	Dir    bool // whether the source is a folder
	Device bool // keep device files usable; set only for /dev entries that the node chose
	Aside  bool // of a Runtime: at Target itself, and not in the Root
}

// Limits bound one program. Zero is no limit.
type Limits struct {
	FileSize int64 // bytes of one file
	Files    int64 // open descriptors
	Procs    int64 // only where there is no pids cgroup
	Data     int64 // bytes; only where there is no memory cgroup
	TmpSize  int64 // bytes of /tmp
	CPUs     []int
	Nodes    []int // NUMA nodes that memory comes from; only where no cpuset says so
	Idle     bool  // run only when nothing else wants to
	Apart    bool  // nothing else on sibling threads meanwhile
	Pinned   bool  // a cpuset holds CPUs, so the program may change its own affinity within
}

// User is who the program is on the host, and inside.
type User struct {
	UID, GID int
	In       [2]int // user and group inside
	Drop     bool   // of root: change to UID and GID, and leave every other group
}

// Config is everything about one sandbox. Its descriptors are the caller's.
type Config struct {
	View   *View // what is around Mounts
	Root   *Root // in place of an empty, read-only root
	Built  bool  // the launcher has View as its root already (LaunchPlan)
	Mounts []Mount
	Limits Limits
	User   User
	// Runtime is a program of the node's own choice that builds walls itself, a
	// container runtime: as user 0 of its user namespace it keeps every capability
	// there, under no filter, with a /proc that it may mount again. What Root and
	// Mounts show is at RootAt, and / is View.
	Runtime bool
	// NetFD is a network namespace to enter; 0 is a new one.
	NetFD int
	// Cgroups are cgroup.procs or tasks files, open for writing, to join.
	Cgroups []int
	// Streams are the program's 0, 1 and 2; 0 is /dev/null.
	Streams [3]int
	// Keep are descriptors that the program inherits as 3, 4, …
	Keep []int
	Self bool   // run the shim itself: Args[1] is its role
	Path string // the program inside the sandbox, when not Self
	// Search are folders in which a Path without a slash is looked up.
	Search []string
	Args   []string
	Env    []string
	Dir    string
}
