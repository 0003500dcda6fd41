package stack

import "golang.org/x/sys/unix"

// memoryDisk is where Linux has a file system in memory.
const memoryDisk = "/dev/shm"

// wantFree is what a file system must have free to be used for a mesh: each
// node keeps a reserve, and its databases allot files that stay mostly holes.
const wantFree = 4 << 30

// diskInMemory returns a folder in memory when there is room, or "", which
// stands for the system's folder of temporary files.
func diskInMemory() string {
	var st unix.Statfs_t
	if err := unix.Statfs(memoryDisk, &st); err != nil || unix.Access(memoryDisk, unix.W_OK) != nil {
		return ""
	}
	if int64(st.Bavail)*st.Bsize < wantFree {
		return ""
	}
	return memoryDisk
}
