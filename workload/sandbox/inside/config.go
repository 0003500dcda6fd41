package inside

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Role names, the first argument of the shim.
const (
	RoleInit  = "sandbox"
	RoleEnter = "enter"
	RoleProbe = "probe"
)

// UID and GID are the program's user and group inside the sandbox.
const (
	UID = 1000
	GID = 1000
)

// File descriptors that the daemon gives the init.
const (
	ControlFD = 3 // Config comes in; end of file means the daemon is gone
	StatusFD  = 4 // Status goes out
	FirstFD   = 5 // the first of Config's own
)

// Mount is one part of the view. Exactly one source is used: FD when it is not
// zero (a detached mount made by the daemon), else Source.
type Mount struct {
	FD     int    `json:"fd,omitempty"`
	Source string `json:"source,omitempty"`
	Target string `json:"target"` // absolute inside the sandbox
	Write  bool   `json:"write,omitempty"`
	Dir    bool   `json:"dir,omitempty"` // whether the source is a folder
	// Device keeps device files usable; set only for our own /dev entries.
	Device bool `json:"device,omitempty"`
	// Optional leaves the mount out when Source does not exist.
	Optional bool `json:"optional,omitempty"`
}

// Limits bound one program. Zero is no limit.
type Limits struct {
	FileSize int64 `json:"file_size,omitempty"` // bytes of one file
	Files    int64 `json:"files,omitempty"`     // open descriptors
	Procs    int64 `json:"procs,omitempty"`     // only where there is no pids cgroup
	Data     int64 `json:"data,omitempty"`      // bytes; only where there is no memory cgroup
	Resident int64 `json:"resident,omitempty"`  // bytes of all processes, watched by the init; only where there is no memory cgroup
	TmpSize  int64 `json:"tmp_size,omitempty"`  // bytes of /tmp
	CPUs     []int `json:"cpus,omitempty"`
	Pinned   bool  `json:"pinned,omitempty"` // a cpuset holds CPUs, so the program may change its own affinity within
}

// Config is everything the init is told.
type Config struct {
	Host   bool    `json:"host,omitempty"` // show the host's /usr and what belongs to it
	Mounts []Mount `json:"mounts,omitempty"`
	Limits Limits  `json:"limits"`
	// Cgroups are descriptors open for writing of the cgroup.procs files to join.
	Cgroups []int `json:"cgroups,omitempty"`
	// Keep are descriptors that the program inherits as 3, 4, …
	Keep []int    `json:"keep,omitempty"`
	Self bool     `json:"self,omitempty"` // run the shim itself: Args[1] is its role
	Path string   `json:"path,omitempty"` // the program inside the sandbox, when not Self
	Args []string `json:"args"`
	Env  []string `json:"env,omitempty"`
	Dir  string   `json:"dir"`
}

// Status is what the init reports. The last one has Ended or Error set.
type Status struct {
	Started  bool   `json:"started,omitempty"`  // the program has been executed
	Error    string `json:"error,omitempty"`    // the sandbox could not be built: a node fault
	NoExec   string `json:"no_exec,omitempty"`  // the program cannot be executed: its own failure
	Errno    int    `json:"errno,omitempty"`    // of NoExec
	Ended    bool   `json:"ended,omitempty"`    // the program has ended
	Code     int    `json:"code,omitempty"`     // its exit code
	Signal   int    `json:"signal,omitempty"`   // the signal that ended it, 0 for none
	CPUMs    int64  `json:"cpu_ms,omitempty"`   // of the program and what it waited for
	MaxRSS   int64  `json:"max_rss,omitempty"`  // bytes, largest process
	Resident bool   `json:"resident,omitempty"` // the init killed it for its memory
}

// maxMessage bounds one Config or Status in bytes.
const maxMessage = 16 << 20

// ErrMessage is returned when a Config or Status is malformed or too long.
var ErrMessage = errors.New("malformed sandbox message")

// Write sends v in one length-prefixed write.
func Write(w io.Writer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(body) > maxMessage {
		return fmt.Errorf("%w: %d bytes", ErrMessage, len(body))
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	return err
}

// Read receives what Write sent. It returns io.EOF at a clean end.
func Read(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxMessage {
		return fmt.Errorf("%w: %d bytes", ErrMessage, n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return nil
}
