package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// ttyCommand runs perrin with a terminal of 80 columns as stdin and stderr, and
// its stdout in the file out. What the terminal was shown is in the file
// screen, a line for each time that the cursor went back:
//
//	tty ARGS
func ttyCommand(ts *testscript.TestScript, neg bool, args []string) {
	keyboard, terminal, err := openPTY()
	ts.Check(err)
	defer keyboard.Close()
	out, err := os.Create(ts.MkAbs("out"))
	ts.Check(err)
	defer out.Close()
	cmd := exec.Command(lookPath("perrin", ts.Getenv("PATH")), args...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("HOME"), "WORK=" + ts.Getenv("WORK"), "PERRIN_SOCKET=" + ts.Getenv("PERRIN_SOCKET")}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, out, terminal
	ts.Check(cmd.Start())
	terminal.Close()
	shown, err := io.ReadAll(keyboard)
	if err != nil && !errors.Is(err, syscall.EIO) { // EIO: the last writer has closed
		ts.Fatalf("read the terminal: %v", err)
	}
	waitErr := cmd.Wait()
	screen := strings.NewReplacer("\r\n", "\n", "\r", "\n", "\x1b[K", "").Replace(string(shown))
	ts.Check(os.WriteFile(ts.MkAbs("screen"), []byte(screen), 0o600))
	if (waitErr != nil) != neg {
		ts.Fatalf("perrin: %v\n%s", waitErr, screen)
	}
}

// openPTY returns the two ends of a new terminal (pty(7)).
func openPTY() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80})
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
	}
	return master, slave, err
}
