// Command measured-init is the first program of a machine that a test boots. It
// makes evidence with the collector of a node, from the files and the device
// where a node finds them.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/mesh/attest/attesttest/machine/talk"
	"github.com/perrin-mesh/perrin/mesh/attest/collect"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

func main() {
	fmt.Fprintln(os.Stderr, "measured-init:", serve())
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// serve answers until the line breaks.
func serve() error {
	for _, m := range []struct{ kind, at string }{{"devtmpfs", "/dev"}, {"sysfs", "/sys"}, {"securityfs", "/sys/kernel/security"}} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && err != unix.EBUSY {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	line, err := openRaw(talk.Port)
	if err != nil {
		return err
	}
	machine := collect.Of(collect.NewTPM(collect.Host()))
	in, out := json.NewDecoder(line), json.NewEncoder(line)
	if _, err := io.WriteString(line, "\n"+talk.Ready); err != nil {
		return err
	}
	for {
		var ask talk.Ask
		if err := in.Decode(&ask); err != nil {
			return err
		}
		a, err := answer(machine, &ask)
		if err != nil {
			a = talk.Answer{Err: err.Error()}
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

// openRaw opens a serial line that changes no byte of what passes.
func openRaw(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	raw := unix.Termios{Cflag: unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200}
	raw.Cc[unix.VMIN] = 1
	return f, unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, &raw)
}

func answer(m *collect.Machine, ask *talk.Ask) (a talk.Answer, err error) {
	switch {
	case ask.Binding != nil:
		b := new(attest.Binding)
		if err := wire.Unmarshal(ask.Binding, b); err != nil {
			return a, err
		}
		e, err := m.Collect(context.Background(), workload.LevelTPM, b)
		if err != nil {
			return a, err
		}
		a.Evidence = e.Encode()
	case ask.Credential != nil:
		a.Secret, err = m.Activate(context.Background(), ask.Credential, ask.Encrypted)
	case ask.Run != "":
		err = exec.Command(ask.Run).Run()
	case ask.Violate != "":
		err = violate(ask.Violate)
	}
	return a, err
}

// violate reads a file while it is open for writing, which IMA cannot measure.
func violate(path string) error {
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer w.Close()
	r, err := os.Open(path)
	if err != nil {
		return err
	}
	return r.Close()
}
