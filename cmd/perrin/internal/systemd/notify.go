// Package systemd speaks to the service manager: the readiness protocol of
// sd_notify(3), and the unit that runs the daemon.
package systemd

import (
	"fmt"
	"net"
	"strings"
	"time"
)

// The states that the daemon reports.
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
)

// Status returns the state that sets the line `systemctl status` shows.
func Status(text string) string { return "STATUS=" + strings.ReplaceAll(text, "\n", " ") }

// Notify sends states to the manager that env names in NOTIFY_SOCKET. It does
// nothing and returns nil when there is none.
func Notify(env func(string) string, states ...string) error {
	name := env("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	if name[0] != '/' && name[0] != '@' {
		return fmt.Errorf("notify the service manager: NOTIFY_SOCKET %.100q is neither a path nor abstract", name)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	if _, err := conn.Write([]byte(strings.Join(states, "\n"))); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}
