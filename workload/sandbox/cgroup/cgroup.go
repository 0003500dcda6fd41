// Package cgroup kills and removes cgroups, version 1 or 2 alike. It is shared by
// the node and its supervisor.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Write writes value to one of the cgroup's files.
func Write(dir, name, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}

// Pids returns the processes of the cgroup folder dir.
func Pids(dir string) ([]int, error) {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, f := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// removeEvery and removeFor bound how long an emptying cgroup is waited for.
const (
	removeEvery = 2 * time.Millisecond
	removeFor   = 5 * time.Second
)

// Remove kills every process in the cgroup folder dir and its children,
// waits until they are gone, and removes it. A folder that is not there is fine.
func Remove(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	for end := time.Now().Add(removeFor); ; {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return fmt.Errorf("remove cgroup %s: %w", dir, err)
		}
		Kill(dir)
		time.Sleep(removeEvery)
	}
}

// Kill sends SIGKILL to every process in the cgroup folder dir.
func Kill(dir string) {
	if Write(dir, "cgroup.kill", "1") == nil {
		return
	}
	pids, err := Pids(dir)
	if err != nil {
		return // gone
	}
	for _, pid := range pids {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	_ = Write(dir, "freezer.state", "THAWED") // version 1: what is frozen dies no sooner
}
