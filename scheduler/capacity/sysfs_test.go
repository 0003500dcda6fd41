package capacity

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cockroachdb/datadriven"
)

// sysfs makes a file system of a recording: lines "path:content" below /sys, as
// grep -r prints them; lines of one path are the lines of that file.
func sysfs(recording string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for line := range strings.Lines(recording) {
		name, content, ok := strings.Cut(line, ":")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		if fsys[name] == nil {
			fsys[name] = &fstest.MapFile{}
		}
		fsys[name].Data = append(fsys[name].Data, content...)
	}
	return fsys
}

func recorded(t testing.TB, name string) fstest.MapFS {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".sys"))
	if err != nil {
		t.Fatal(err)
	}
	return sysfs(string(b))
}

func machine(t testing.TB, name string) Topology {
	t.Helper()
	topo, err := ReadTopology(recorded(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return topo
}

// describe prints a topology for transcripts.
func describe(topo Topology) string {
	var b strings.Builder
	fmt.Fprintf(&b, "sockets %d, nodes %d, cores %d, threads %d, smt %d, memory %d", topo.Sockets(), len(topo.Nodes), len(topo.Cores),
		topo.Threads(), topo.SMT(), topo.Memory())
	if topo.Declared {
		b.WriteString(", declared")
	}
	b.WriteByte('\n')
	for _, c := range topo.Cores {
		fmt.Fprintf(&b, "  socket %d node %d tier %d: %s", c.Socket, c.Node, c.Tier, FormatCPUs(c.CPUs))
		if c.Shared {
			b.WriteString(" shared")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestTopology reads recorded machines. Commands: read MACHINE, then restrict
// CPUS and declare CORES FIRST on what was read last.
func TestTopology(t *testing.T) {
	var topo Topology
	datadriven.RunTest(t, "testdata/topology.txt", func(t *testing.T, d *datadriven.TestData) string {
		next, err := Topology{}, error(nil)
		switch d.Cmd {
		case "read":
			next, err = ReadTopology(recorded(t, d.CmdArgs[0].Key))
		case "restrict":
			var cpus []int
			if cpus, err = ParseCPUs(strings.Join(strings.Fields(d.Input), ",")); err == nil {
				next, err = topo.Restrict(cpus)
			}
		case "declare":
			var cores, first int
			d.ScanArgs(t, "cores", &cores)
			d.ScanArgs(t, "first", &first)
			next, err = topo.Declare(cores, first)
		default:
			t.Fatalf("unknown command %q", d.Cmd)
		}
		if err != nil {
			return "error: " + err.Error() + "\n"
		}
		if d.Cmd == "read" {
			topo = next
		}
		return describe(next)
	})
}

func TestReadTopologyOfThisMachine(t *testing.T) {
	if _, err := os.Stat("/sys/devices/system/cpu/online"); err != nil {
		t.Skip("no sysfs here:", err)
	}
	topo, err := ReadTopology(os.DirFS("/sys"))
	if err != nil {
		t.Fatal(err)
	}
	if topo.Threads() < len(topo.Cores) || len(topo.CPUs()) != topo.Threads() {
		t.Errorf("implausible: %s", describe(topo))
	}
}

// TestReadTopologyRefusesJunk changes one file of a good recording at a time.
func TestReadTopologyRefusesJunk(t *testing.T) {
	const cpu0 = "devices/system/cpu/cpu0/topology/"
	tests := []struct{ file, content, want string }{
		{"devices/system/cpu/online", "0-", `"0-" in a CPU list`},
		{"devices/system/cpu/online", "3-1", `"3-1" in a CPU list`},
		{"devices/system/cpu/online", "-1", "in a CPU list"},
		{"devices/system/cpu/online", "0-65535", "names more than 4096"},
		{"devices/system/cpu/online", "0-99999999999", "in a CPU list"},
		{"devices/system/cpu/online", strings.Repeat("0,", 40000), "longer than 65536 bytes"},
		{"devices/system/cpu/online", "", "no CPU to offer"},
		{cpu0 + "core_cpus_list", "1,5", "CPU 0 itself must be among them"},
		{cpu0 + "core_cpus_list", "0-7", "CPU 1 names siblings [1 5], CPU 0 names"},
		{"devices/system/cpu/cpu3/topology/core_cpus_list", "0,3", "CPU 0 is a sibling of CPU 3, which names others"},
		{cpu0 + "core_cpus_list", "zero", `core_cpus_list: malformed topology: "zero"`},
		{cpu0 + "physical_package_id", "one\n", "is not a number"},
		{"devices/system/node/online", "0-1", "node1/cpulist"},
		{"devices/system/node/node0/cpulist", "0-6", "CPU 7 is online, but on no node"},
		{"devices/system/node/node0/meminfo", "Node 0 MemTotal: -4 kB", "node0/meminfo"},
		{"devices/system/node/node0/meminfo", "Node 0 MemTotal: 99999999999999999999 kB", "node0/meminfo"},
		{"devices/system/cpu/cpu1/cpu_capacity", "fast", "is not a number"},
		{"devices/cpu_atom/cpus", "x", "cpu_atom/cpus"},
	}
	for _, tt := range tests {
		fsys := recorded(t, "one-socket-smt")
		fsys[tt.file] = &fstest.MapFile{Data: []byte(tt.content)}
		_, err := ReadTopology(fsys)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s = %.20q: got %v, want an error with %q", tt.file, tt.content, err, tt.want)
		}
	}
	if _, err := ReadTopology(fstest.MapFS{}); err == nil {
		t.Error("an empty sysfs has a topology")
	}
}

func TestReadTopologyRefusesTwoNodes(t *testing.T) {
	fsys := recorded(t, "two-sockets-numa")
	fsys["devices/system/node/node1/cpulist"].Data = []byte("3-7,11-15")
	if _, err := ReadTopology(fsys); !errors.Is(err, ErrMalformed) {
		t.Errorf("CPU 3 on two nodes: %v", err)
	}
	fsys = recorded(t, "two-sockets-numa")
	fsys["devices/system/node/node0/cpulist"].Data = []byte("0-3,9-12")
	fsys["devices/system/node/node1/cpulist"].Data = []byte("4-8,13-15")
	if _, err := ReadTopology(fsys); !errors.Is(err, ErrMalformed) {
		t.Errorf("a core on two nodes: %v", err)
	}
}

func TestReadTopologyWithoutTopologyFiles(t *testing.T) {
	topo, err := ReadTopology(sysfs("devices/system/cpu/online:0-2\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(topo.Cores) != 3 || topo.SMT() != 1 || len(topo.Nodes) != 1 {
		t.Errorf("got %s", describe(topo))
	}
}

func TestFormatCPUs(t *testing.T) {
	for _, s := range []string{"", "0", "0-3", "0,2,4", "0-1,3-5,9"} {
		cpus, err := ParseCPUs(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := FormatCPUs(cpus); got != s {
			t.Errorf("%q came back as %q", s, got)
		}
	}
}

func FuzzParseCPUs(f *testing.F) {
	for _, seed := range []string{"", "0-3,8", "5-2", "1,1,1", "0-4095", "0-4096", "--", "1-2-3", " 7 \n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		cpus, err := ParseCPUs(s)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("error %v does not wrap ErrMalformed", err)
			}
			return
		}
		again, err := ParseCPUs(FormatCPUs(cpus))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(cpus) {
			t.Errorf("%q parses as %v, which formats as %q", s, cpus, FormatCPUs(cpus))
		}
	})
}

func FuzzReadTopology(f *testing.F) {
	for _, name := range []string{"one-socket-smt", "two-sockets-numa", "hybrid", "smt-off", "arm-board", "vm"} {
		b, err := os.ReadFile(filepath.Join("testdata", name+".sys"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Fuzz(func(t *testing.T, recording string) {
		topo, err := ReadTopology(sysfs(recording))
		if err != nil {
			return
		}
		a, err := New(topo, Limits{Memory: 1 << 30, Slots: 1})
		if err != nil || a.Total().Threads < 1 {
			t.Errorf("a topology without an allocator: %v: %s", err, describe(topo))
		}
	})
}
