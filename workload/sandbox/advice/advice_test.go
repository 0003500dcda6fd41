package advice

import (
	"strings"
	"testing"
	"testing/fstest"
)

const swapHead = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"

func TestAWellKeptMachine(t *testing.T) {
	root := fstest.MapFS{
		"proc/swaps":                                       {Data: []byte(swapHead + "/dev/zram0                              partition\t8388604\t0\t100\n")},
		"sys/kernel/mm/ksm/run":                            {Data: []byte("0\n")},
		"sys/devices/system/cpu/smt/active":                {Data: []byte("1\n")},
		"sys/devices/system/cpu/vulnerabilities/meltdown":  {Data: []byte("Mitigation: PTI\n")},
		"sys/devices/system/cpu/vulnerabilities/spectre_1": {Data: []byte("Not affected\n")},
		"proc/sys/kernel/osrelease":                        {Data: []byte("6.1.0-18-cloud-amd64\n")},
	}
	if got := Of(root); len(got) > 0 {
		t.Errorf("it is told %q", got)
	}
	if got := Of(fstest.MapFS{}); len(got) > 0 {
		t.Errorf("a machine that tells nothing is told %q", got)
	}
}

func TestWhatWeakensTheWalls(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"swap":       {map[string]string{"proc/swaps": swapHead + "/dev/sda2                               partition\t8388604\t0\t-2\n"}, "swap is on (/dev/sda2)"},
		"same pages": {map[string]string{"sys/kernel/mm/ksm/run": "1\n"}, "(KSM)"},
		"hardware": {map[string]string{
			flaws + "/mds": "Vulnerable: Clear CPU buffers attempted, no microcode; SMT disabled\n", flaws + "/retbleed": "Vulnerable\n", flaws + "/l1tf": "Mitigation: PTE Inversion\n",
		}, "through mds, retbleed:"},
		"threads": {map[string]string{
			"sys/devices/system/cpu/smt/active": "1\n", flaws + "/l1tf": "Mitigation: PTE Inversion; VMX: conditional cache flushes, SMT vulnerable\n",
		}, "through l1tf:"},
		"old kernel": {map[string]string{"proc/sys/kernel/osrelease": "5.15.0-91-generic\n"}, `"5.15.0-91-generic" is older than 6.1`},
	} {
		root := fstest.MapFS{}
		for file, text := range c.files {
			root[file] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := Of(root); len(got) != 1 || !strings.Contains(got[0], c.want) {
			t.Errorf("%s: it is told %q, want %q", name, got, c.want)
		}
	}
}
