package systemd

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	env := func(name string) string { return map[string]string{"NOTIFY_SOCKET": path}[name] }
	if err := Notify(env, Ready, Status("all\nwell")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, err := conn.Read(buf)
	if err != nil || string(buf[:n]) != "READY=1\nSTATUS=all well" {
		t.Errorf("got %q, %v", buf[:n], err)
	}
	if err := Notify(func(string) string { return "" }, Ready); err != nil {
		t.Errorf("without a manager: %v", err)
	}
	for _, bad := range []string{"relative", filepath.Join(t.TempDir(), "none")} {
		if err := Notify(func(string) string { return bad }, Ready); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}

func TestUnitIsReplacedAndRemovedOnlyWhenOurs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "units")
	u := Unit{Exec: "/usr/bin/perrin", Data: "/var/lib/perrin"}
	path, err := u.Install(dir)
	if err != nil {
		t.Fatal(err)
	}
	u.Data = "/srv/p"
	if _, err := u.Install(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(text, []byte("ExecStart=/usr/bin/perrin up --data /srv/p\n")) {
		t.Errorf("%v\n%s", err, text)
	}
	if _, err := Uninstall(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Uninstall(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed twice: %v", err)
	}
	if err := os.WriteFile(path, []byte("[Unit]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, installErr := u.Install(dir)
	_, removeErr := Uninstall(dir)
	if !errors.Is(installErr, ErrForeign) || !errors.Is(removeErr, ErrForeign) {
		t.Errorf("another's unit: %v, %v", installErr, removeErr)
	}
}

func TestUnitQuotes(t *testing.T) {
	text := Unit{Exec: "/opt/my perrin", Args: []string{"--name", `a"b`}, Data: "/data/50%"}.Text()
	if !strings.Contains(text, `ExecStart="/opt/my perrin" up --data /data/50%% --name "a\"b"`+"\n") {
		t.Errorf("not quoted:\n%s", text)
	}
	if !strings.Contains(Unit{Data: "/home/u/p"}.Text(), "ProtectHome=no\n") {
		t.Error("a data folder in /home would be hidden")
	}
}

// TestSystemdAcceptsTheUnit asks systemd itself, where it is installed.
func TestSystemdAcceptsTheUnit(t *testing.T) {
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	for _, user := range []bool{false, true} {
		dir := t.TempDir()
		path, err := Unit{Exec: "/bin/true", Data: "/var/lib/perrin", User: user}.Install(dir)
		if err != nil {
			t.Fatal(err)
		}
		args := []string{"verify", "--man=no", path}
		if user {
			args = append([]string{"--user"}, args...)
		}
		cmd := exec.Command(tool, args...)
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir)
		out, err := cmd.CombinedOutput()
		if strings.Contains(string(out), "Failed to initialize manager") || strings.Contains(string(out), "Failed to connect") {
			t.Skipf("systemd-analyze cannot run here: %s", out)
		}
		if bytes.Contains(out, []byte(path)) || bytes.Contains(out, []byte("Unknown")) {
			t.Errorf("user %t: %v\n%s", user, err, out)
		}
	}
}
