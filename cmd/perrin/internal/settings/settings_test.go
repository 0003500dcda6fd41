package settings

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// load loads with a fresh set of flags.
func load(t *testing.T, env map[string]string, args ...string) (Values, error) {
	t.Helper()
	flags := pflag.NewFlagSet("up", pflag.ContinueOnError)
	flags.String("socket", "", "")
	Register(flags, Definitions())
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return Load(flags, func(name string) string { return env[name] })
}

func TestTheStrongerSourceWins(t *testing.T) {
	dir := t.TempDir()
	file := "cores: 1\nmemory: 1GiB\nlisten:\n- /ip4/1.2.3.4/tcp/1\n- /ip4/1.2.3.4/tcp/2\npprof: true\nlease_ttl: 3s\n"
	if err := os.WriteFile(filepath.Join(dir, FileName), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := load(t, map[string]string{"PERRIN_MEMORY": "2GiB", "PERRIN_DATA": dir, "PERRIN_LABEL": "a=b,c=d"}, "--cores", "3")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Value{
		"cores":     {"cores", "3", FromFlag, "--cores"},
		"memory":    {"memory", "2GiB", FromEnv, "PERRIN_MEMORY"},
		"data":      {"data", dir, FromEnv, "PERRIN_DATA"},
		"pprof":     {"pprof", "true", FromFile, filepath.Join(dir, FileName) + ":6:8"},
		"log-level": {"log-level", "info", FromDefault, ""},
	} {
		if v[name] != want {
			t.Errorf("%s: got %+v, want %+v", name, v[name], want)
		}
	}
	if v.Int("cores") != 3 || v.Size("memory") != 2<<30 || !v.Bool("pprof") || v.Duration("lease-ttl") != 3*time.Second ||
		len(v.List("listen")) != 2 || v.Pairs("label")["c"] != "d" || v.Mode() != 0o600 {
		t.Errorf("typed values are wrong: %+v", v)
	}
}

// TestTheTemplateIsReadBack holds that the file which init writes says the same
// as what it was written from, once with everything given and once with nothing.
func TestTheTemplateIsReadBack(t *testing.T) {
	given := []string{"--name", "attic", "--cores", "2", "--label", "zone=a", "--label", "gpu=yes", "--socket", "/x y/s", "--mdns=false"}
	for _, args := range [][]string{given, nil} {
		dir := t.TempDir()
		before, err := load(t, nil, append(args, "--data", dir)...)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, FileName), Template(before), 0o600); err != nil {
			t.Fatal(err)
		}
		after, err := load(t, nil, "--data", dir)
		if err != nil {
			t.Fatalf("%v\n%s", err, Template(before))
		}
		for _, name := range before.Names() {
			if before.Text(name) != after.Text(name) {
				t.Errorf("%s: wrote %q, read %q", name, before.Text(name), after.Text(name))
			}
		}
		for _, d := range Definitions()[1:] {
			if !strings.Contains(string(Template(before)), d.Field()+": ") {
				t.Errorf("the file does not mention %s", d.Name)
			}
		}
	}
}

func TestAWrongValueSaysWhereItStands(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{
		"cores: many":           FileName + ":1:8: want a whole number from 0 to 4096",
		"\ncoers: 1":            FileName + `:2:1: unknown field "coers"`,
		"name: [a]":             FileName + ":1:7: name: want one value, got a list",
		"name: a/b":             FileName + ":1:7: want a name of 1 to 63",
		"- a":                   FileName + ": want fields such as",
		"name: \"x":             FileName + ":1:7: not YAML",
		"label: {kind-wasm: x}": FileName + ":1:9: the label",
		"lease_ttl: 1ms":        FileName + ":1:12: want 1s to 10m",
		"blob_limit: 1MiB":      FileName + ":1:13: want 64 MiB or more",
		"socket_mode: \"777\"":  FileName + ":1:14: want 0600 or 0660",
		"pprof: perhaps":        FileName + ":1:8: want true or false",
		"log_format: xml":       FileName + ":1:13: want text or json",
		"log_level: loud":       FileName + ":1:12: want debug",
		"memory: 1k":            FileName + ":1:9: want 0, or 1 MiB",
	} {
		if err := os.WriteFile(filepath.Join(dir, FileName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := load(t, nil, "--data", dir)
		var wrong *Error
		if !errors.As(err, &wrong) || !strings.Contains(err.Error(), want) || wrong.Hint == "" {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func TestDefaultFolders(t *testing.T) {
	env := func(name string) string {
		return map[string]string{"HOME": "/home/u", "XDG_RUNTIME_DIR": "/run/user/7"}[name]
	}
	data, socket := DefaultData(env), DefaultSocket(env)
	if os.Geteuid() == 0 {
		if data != "/var/lib/perrin" || socket != "/run/perrin/api.sock" {
			t.Errorf("as root: %s, %s", data, socket)
		}
		return
	}
	if data != "/home/u/.local/share/perrin" || socket != "/run/user/7/perrin/api.sock" {
		t.Errorf("as a user: %s, %s", data, socket)
	}
}
