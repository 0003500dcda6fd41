package settings

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"
)

// FuzzFile reads arbitrary bytes as the file of settings. An error says where;
// what is taken can be read as what it is for, and the file that is written of it
// is taken too.
func FuzzFile(f *testing.F) {
	f.Add([]byte("cores: 1\nmemory: 1GiB\nlisten:\n- /ip4/1.2.3.4/tcp/1\npprof: true\nlease_ttl: 3s\nlabel: [a=b, c=d]\n"))
	f.Add([]byte("socket_mode: 0660\nname: x\nlog_level: debug\nlog_format: json\nblob_limit: 1TiB\n"))
	f.Add([]byte("cores: [1]\n"))
	f.Add([]byte("label: {a: b}\nnothing: 1\n"))
	f.Add([]byte("name: 'a,b'\nlabel: ['a=b,c=d', \"e=\\n\"]\n"))
	dir := f.TempDir()
	path := filepath.Join(dir, FileName)
	load := func(t *testing.T, raw []byte) (Values, error) {
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		return Load(pflag.NewFlagSet("up", pflag.ContinueOnError), func(name string) string { return map[string]string{"PERRIN_DATA": dir}[name] })
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, err := load(t, raw)
		if err != nil {
			var own *Error
			if !errors.As(err, &own) || own.Where == "" {
				t.Errorf("an error without a place: %v", err)
			}
			return
		}
		if v.Size("memory") < 0 || v.Duration("lease-ttl") <= 0 || v.Mode() == 0 || len(v.List("listen")) == 0 && v.Text("listen") != "" {
			t.Errorf("values that mean nothing: %+v", v)
		}
		if _, err := load(t, Template(v)); err != nil {
			t.Fatalf("the file that is written of it is refused: %v\n%s", err, Template(v))
		}
	})
}
