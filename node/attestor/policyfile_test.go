package attestor

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/workload"
)

func TestPolicyFile(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, PolicyFile, []byte(`# what we take
collateral_age: 720h
without_lists: true
tpm: {need_lists: true, measurements: [pcr9=0011223344556677889900112233445566778899001122334455667788990011]}
snp:
  min_tcb:
    milan: {bootloader: 4, tee: 0, snp: 24, microcode: 219}
    turin: {fmc: 1}
  max_vmpl: 2
  measurements:
    - launch=0011223344556677889900112233445566778899001122334455667788990011
tdx:
  status: [UpToDate, SWHardeningNeeded]
  min_evaluation: 17
sgx:
  measurements: [mrenclave=00112233445566778899001122334455]
`))
	p, err := LoadPolicy(dir)
	if err != nil {
		t.Fatal(err)
	}
	if p.CollateralAge != 720*time.Hour || !p.WithoutLists || !p.NeedRevocation || p.TPMMeasurements[0].Name != "pcr9" || p.SNP.MaxVMPL != 2 || p.TDX.MinEvaluation != 17 || len(p.TDX.Status) != 2 ||
		p.SNP.MinTCB["milan"] != (attest.SNPTCB{Bootloader: 4, SNP: 24, Microcode: 219}) || p.SNP.MinTCB["turin"].FMC != 1 || p.SNP.Measurements[0].Name != "launch" || p.SGX.Measurements[0].Name != "mrenclave" {
		t.Errorf("%+v", p)
	}
}

func TestPolicyFileRefuses(t *testing.T) {
	for text, says := range map[string]string{
		"snpp: {}":                                                       `policy.yaml:1:1: policy: unknown field "snpp"; did you mean snp?`,
		"snp: {min_tcb: {rome: {}}}":                                     `snp.min_tcb: unknown field "rome"`,
		"snp: {min_tcb: {milan: {fmc: 1}}":                               "policy.yaml:1",
		"snp: {min_tcb: {milan: {fmc: 1}}}":                              `snp.min_tcb.milan: unknown field "fmc"; the fields are bootloader, microcode, snp, tee`,
		"snp: {min_tcb: {milan: {snp: 256}}}":                            `policy.yaml:1:30: snp.min_tcb.milan.snp: want a number from 0 to 255, got "256"`,
		"snp: {max_vmpl: 4}":                                             "snp.max_vmpl: want a number from 0 to 3",
		"snp: {measurements: [launch=00]}":                               "snp.measurements: \"launch=00\": want 16 to 64 bytes",
		"tpm: {measurements: [pcr16=00112233445566778899001122334455]}":  `policy.yaml:1:22: tpm.measurements: "pcr16": a tpm shows pcr0 to pcr15`,
		"tdx: {measurements: [launch=00112233445566778899001122334455]}": `tdx.measurements: "launch": tdx shows mrtd`,
		"tpm: {files: []}":                                               `tpm: unknown field "files"; the fields are measurements, need_lists`,
		"snp: {measurements: launch=00}":                                 "snp.measurements: want a list of at most 256, got a text",
		"snp: yes please":                                                "snp: want a mapping, got a text",
		"tdx: {status: [Revoked]}":                                       `tdx.status: "Revoked" is none of UpToDate,`,
		"tpm: {measurements: []}":                                        "policy.yaml:1:21: tpm.measurements: it is empty; list at least one, or leave the field out",
		"sgx: {measurements: []}":                                        "sgx.measurements: it is empty",
		"tdx: {status: []}":                                              "tdx.status: it is empty",
		"snp: {min_tcb: {}}":                                             "snp.min_tcb: it is empty; name at least one product",
		"tdx: {min_evaluation: -1}":                                      "tdx.min_evaluation: want a number",
		"collateral_age: 3 days":                                         "collateral_age: want a time such as 720h",
		"collateral_age: 0s":                                             "collateral_age: want a time such as 720h",
		"without_lists: 1":                                               "without_lists: want true or false, got a number",
		"snp: &x {max_vmpl: 1}\ntdx: *x":                                 "policy.yaml:1",
		"sgx: {measurements: [{a: b}]}":                                  "sgx.measurements: want a text, got a mapping",
		"tpm: {need_lists: maybe}\nsnp: {x: 1}":                          "policy.yaml:1:19: tpm.need_lists: want true or false", // the first one
	} {
		dir := t.TempDir()
		put(t, dir, PolicyFile, []byte(text))
		if _, err := LoadPolicy(dir); !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %v, want %q", text, err, says)
		}
	}
}

// TestMisnamedPolicy: a file whose name is a slip is not left out in silence, and the
// daemon's own folder and notes are.
func TestMisnamedPolicy(t *testing.T) {
	for name, want := range map[string]string{
		"policy.json": PolicyFile, "policy.yml": PolicyFile, "policy.yaml.txt": PolicyFile, "Policy.yaml": PolicyFile, "policy": PolicyFile, "polcy.yaml": PolicyFile,
		"tpm-files.txt": FilesFile, "tpm_files": FilesFile, "TPM-Files": FilesFile, "tpmfiles": FilesFile, "tpm-file": FilesFile, "tpm-files.lst": FilesFile,
		"tpm-keys.txt": KeysFile, "tpm_keys": KeysFile, "tpm-key": KeysFile,
		"maker.PEM": "maker.pem",
	} {
		dir := t.TempDir()
		put(t, dir, name, []byte("x"))
		if _, err := LoadPolicy(dir); !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), name+": call it "+want+",") {
			t.Errorf("%s: got %v, want to be told of %s", name, err, want)
		}
	}
	dir := t.TempDir()
	for _, name := range []string{"collateral", "notes.txt", "README", "tpm-files.old", "tpm-files~", ".tpm-files.swp", "policy.yaml.bak"} {
		put(t, dir, name, []byte("x"))
	}
	if _, err := LoadPolicy(dir); err != nil {
		t.Error(err)
	}
}

// TestFilesFile reads a list of files as sha256sum and the kernel's own list print it.
func TestFilesFile(t *testing.T) {
	one, two := strings.Repeat("1a", 32), strings.Repeat("2b", 32)
	dir := t.TempDir()
	put(t, dir, FilesFile, []byte("# of the attic\n"+one+"  /usr/bin/perrin\nsha256:"+two+" /init\n\n"))
	p, err := LoadPolicy(dir)
	if err != nil || len(p.TPMFiles) != 2 || !p.TPMFiles[[32]byte(bytes.Repeat([]byte{0x2b}, 32))] {
		t.Fatalf("%v, %v", p, err)
	}
	for text, says := range map[string]string{
		"":                       "tpm-files: it lists no file, so that no machine could count",
		"# none yet\n":           "tpm-files: it lists no file",
		one + "\nsha1:" + two:    "tpm-files: line 2: want 64 hex digits, a SHA-256 digest as sha256sum prints it",
		one[:62] + " /bin/short": "tpm-files: line 1: want 64 hex digits",
	} {
		put(t, dir, FilesFile, []byte(text))
		if _, err := LoadPolicy(dir); !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %v, want %q", text, err, says)
		}
	}
}

// TestPolicyDigest: two folders that say the same have one digest, whatever else is in
// them, and each file that is read changes it.
func TestPolicyDigest(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	if d := PolicyDigest(a); !d.IsZero() || PolicyDigest(filepath.Join(a, "none")) != d {
		t.Error("an empty folder has a digest")
	}
	seen := map[workload.Digest]bool{{}: true}
	for _, name := range []string{PolicyFile, KeysFile, FilesFile, "maker.pem"} {
		put(t, a, name, []byte("x"))
		d := PolicyDigest(a)
		if seen[d] || PolicyDigest(b) == d {
			t.Errorf("%s changes nothing", name)
		}
		put(t, b, name, []byte("x"))
		put(t, b, "notes.txt", []byte(name))
		if seen[d] = true; PolicyDigest(b) != d {
			t.Errorf("with %s two folders differ that say the same", name)
		}
	}
}
