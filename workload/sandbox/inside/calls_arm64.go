package inside

import "golang.org/x/sys/unix"

const (
	auditArch  = unix.AUDIT_ARCH_AARCH64
	foreignBit = 0 // the 32-bit ABI has an audit architecture of its own
)

// archCalls are allowed calls that only this architecture has.
var archCalls = []uint32{}
