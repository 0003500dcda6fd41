package watchdog

import (
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Role is the first argument of the shim; the path of the journal and the node's
// folders of cgroups follow.
const Role = "supervisor"

// SocketFD is the supervisor's end of its socket pair (SOCK_SEQPACKET).
const SocketFD = 3

// Op says what a message is.
type Op string

// From the daemon: Grant, Add (with a pidfd), Drop, Forget. From the
// supervisor: Added or Refused, and Killed once every process is gone.
const (
	OpGrant   Op = "grant"
	OpAdd     Op = "add"
	OpDrop    Op = "drop"
	OpForget  Op = "forget"
	OpAdded   Op = "added"
	OpRefused Op = "refused"
	OpKilled  Op = "killed"
)

// Message is one packet either way.
type Message struct {
	Op       Op       `json:"op"`
	Keys     []string `json:"keys,omitempty"`
	ID       uint64   `json:"id,omitempty"`
	Deadline Instant  `json:"deadline,omitempty"`
	Cgroups  []string `json:"cgroups,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	AtNs     Instant  `json:"at,omitempty"`      // when it was killed, or seen to have ended
	Suspend  int64    `json:"suspend,omitempty"` // ns that the machine slept before
}

// MaxPacket bounds one packet in bytes; MaxKeys keeps a grant below it.
const (
	MaxPacket = 64 << 10
	MaxKeys   = 256
)

// Send writes one packet, with a descriptor when pidfd is not negative.
func Send(sock, pidfd int, m Message, flags int) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(b) > MaxPacket {
		return fmt.Errorf("supervisor message of %d bytes", len(b))
	}
	var rights []byte
	if pidfd >= 0 {
		rights = unix.UnixRights(pidfd)
	}
	for {
		err := unix.Sendmsg(sock, b, rights, nil, flags|unix.MSG_NOSIGNAL)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// ErrGone is returned by Receive when the other side has closed or died.
var ErrGone = errors.New("supervisor socket closed")

// Receive reads one packet. pidfd is -1 when none came along.
func Receive(sock int, buf []byte) (m Message, pidfd int, err error) {
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := unix.Recvmsg(sock, buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return m, -1, err
	}
	if n == 0 {
		return m, -1, ErrGone
	}
	pidfd = firstRight(oob[:oobn])
	if err := json.Unmarshal(buf[:n], &m); err != nil {
		if pidfd >= 0 {
			unix.Close(pidfd)
		}
		return m, -1, err
	}
	return m, pidfd, nil
}

func firstRight(oob []byte) int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) == 0 {
		return -1
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return -1
	}
	return fds[0]
}

// Now reads the boot-time clock.
func Now() Instant { return clock(unix.CLOCK_BOOTTIME) }

func clock(id int32) Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		return 0 // every Linux since 2.6.39 has both clocks
	}
	return Instant(ts.Nano())
}
