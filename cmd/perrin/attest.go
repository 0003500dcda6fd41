package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
)

func (a *app) attestCommand() *cobra.Command {
	var level string
	var measurements []string
	cmd := &cobra.Command{
		Use: "attest [NODE]", Short: "What a machine can prove of itself, and what that means",
		Long: `Ask a node of this cell for fresh evidence of its machine, appraise it, and show
what it proves: the level (none, tpm, sgx, tdx, snp), each claim graded, and the
measurements. Without NODE, show what this machine can prove, and to whom it did: the
last 64 times, also from before a restart. With --json the grades stand as appraisal.trust
and appraisal.status, under the names and with the values of an EAR
(draft-ietf-rats-ear); 2 to 31 affirm, 32 to 95 warn, from 96 on speak against it.

A TPM counts when its maker's certificate lies as a .pem file in the daemon's folder
attest, or its endorsement key is listed there in the file tpm-keys; revocation
lists (.pem) are read there too. AMD SEV-SNP (snp), Intel TDX (tdx) and Intel SGX
(sgx) count by their makers' roots, which are built in. The file policy.yaml there
says what else they must show: the least firmware, measurements, how old
revocation lists may be (docs/threat-model.md#what-an-operator-asks-of-machines).

What --measurement and policy.yaml want are the lines that this command prints as
"measured", of a machine that you know to be well: of a TPM pcr4 and pcr7 change
with the boot loader, pcr8 and pcr9 with the kernel, its command line and its
initial file system. List pcr4 and pcr9 together (with GRUB pcr4, pcr8, pcr9): root
on any kernel can extend pcr9, so alone it says nothing about who did. pcr10 changes
with each program that IMA measures: list the programs in the file tpm-files
instead, and each other one is refused by name.
Files count as known only beside those registers, and never with a BIOS, whose
pcr4 is the boot sector alone
(docs/threat-model.md#registers-and-files-of-a-tpm).

The verifiers of snp, tdx and sgx were tested with recorded evidence of real
machines and with made-up ones; nobody has run a node on such a machine yet.

With --require, return 1 when less is proved.`,
		Example: examples("perrin attest", "perrin attest attic", "perrin attest attic --json", "perrin attest attic --require tpm --measurement pcr7=HEX", "perrin attest cloud1 --require snp --measurement launch=HEX"),
		Args:    atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := notEmpty(cmd.Flags(), "require"); err != nil {
				return err
			}
			want, err := requireOf(level, measurements, workload.DefaultEvidenceAge)
			if err != nil {
				return err
			}
			return a.withBackend(func(b *backend) error {
				found, err := b.Attest(cmd.Context(), strings.Join(args, ""))
				if err != nil {
					return err
				}
				if err := show(a, found, a.printAttest); err != nil {
					return err
				}
				return met(found, want)
			})
		},
	}
	requireFlags(cmd, &level, &measurements)
	a.jsonFlag(cmd)
	return cmd
}

// requireFlags adds what can be required of a machine.
func requireFlags(cmd *cobra.Command, level *string, measurements *[]string) {
	cmd.Flags().StringVar(level, "require", "", "what the machine must prove: tpm, sgx, tdx or snp")
	oneOf(cmd, "require", []string{"tpm", "sgx", "tdx", "snp"})
	cmd.Flags().StringArrayVar(measurements, "measurement", nil, "NAME=HEX that it must show, such as pcr7=…; of one name any will do")
}

// requireOf is what the flags ask for, or nil.
func requireOf(level string, measurements []string, age time.Duration) (*workload.Require, error) {
	if level == "" && len(measurements) == 0 {
		return nil, nil
	}
	if level == "" {
		return nil, usagef("say --require tpm, sgx, tdx or snp too", "--measurement: it is not said what has to prove it")
	}
	r := &workload.Require{Level: workload.Level(level), Measurements: measurements, MaxAge: age.Milliseconds()}
	if err := r.Validate(); err != nil {
		if age < 0 || age > workload.MaxEvidenceAge {
			return nil, usagef("give a time of at most a day, such as 10m, or 0 for fresh evidence", "%s", flagNames.Replace(err.Error()))
		}
		return nil, usagef("levels are tpm, sgx, tdx and snp; a measurement is NAME=HEX as `perrin attest NODE` prints it", "%s", flagNames.Replace(err.Error()))
	}
	return r, nil
}

var flagNames = strings.NewReplacer("require.level", "--require", "require.measurements", "--measurement", "require.max_age", "--evidence-age")

// met returns an outcome when an appraisal is not what was required.
func met(found *api.Attest, want *workload.Require) error {
	if err := found.Appraisal.Meet(want, found.Appraisal.At); err != nil {
		return failf("without --require, the same command shows all that it proves", "%s: %w", terminal.Clean(found.Name, 64), err)
	}
	return nil
}

func (a *app) printAttest(x *api.Attest) error {
	var out strings.Builder
	p := func(name, format string, args ...any) {
		fmt.Fprintf(&out, "%-13s%s\n", name, fmt.Sprintf(format, args...))
	}
	f := &x.Appraisal
	p("node", "%s (%s)%s", terminal.Clean(x.Name, 64), x.Node.Short(), map[bool]string{true: ", this machine"}[x.Self])
	p("level", "%s", levelText(f))
	for _, why := range f.Fails {
		p("refused", "%s", terminal.Clean(why, 300))
	}
	if f.Kind != workload.LevelNone {
		writeProof(p, f)
	}
	for _, note := range f.Notes {
		if f.Kind != workload.LevelNone || len(x.Abilities) == 0 {
			p("", "%s", terminal.Clean(note, 300))
		}
	}
	for _, can := range x.Abilities {
		if !can.Can {
			p("cannot "+terminal.Clean(string(can.Kind), 8), "%s", terminal.Clean(can.Why, 300))
		}
	}
	meaning := meanings[f.Level]
	fmt.Fprintf(&out, "\nThis means:     %s\nIt does not:    %s\n", meaning.does, meaning.not)
	if f.Level == workload.LevelNone && f.Kind == workload.LevelTPM {
		fmt.Fprintf(&out, "To trust it:    put the certificate of the chip's maker into %s, or the chip's\n                digest above into the file tpm-keys there, once you know the machine.\n", terminal.Clean(x.Policy, 300))
	}
	if f.Level == workload.LevelNone && f.Kind != workload.LevelNone && f.Kind != workload.LevelTPM {
		fmt.Fprintf(&out, "What is taken:  the file policy.yaml in %s says it.\n", terminal.Clean(x.Policy, 300))
	}
	if !x.Self && !x.SameRules {
		fmt.Fprintf(&out, "Other rules:    it asks of machines another thing than this node (%s): as leader it would take or refuse others.\n                Give every voter the same folder.\n", terminal.Clean(x.Policy, 300))
	}
	if x.Self {
		writeTold(&out, x.Told)
	}
	_, err := io.WriteString(a.stdout, out.String())
	return err
}

func levelText(f *workload.Appraisal) string {
	if f.Level == workload.LevelNone && f.Kind != workload.LevelNone {
		return fmt.Sprintf("none: its %s evidence is refused", terminal.Clean(string(f.Kind), 8))
	}
	return terminal.Clean(string(f.Level), 8)
}

// writeProof prints what evidence came to.
func writeProof(p func(name, format string, args ...any), f *workload.Appraisal) {
	bound := "both nodes and a nonce"
	if f.Channel {
		bound = "both nodes, the encrypted connection between them and a nonce"
	}
	p("evidence", "%s, made %s for %s", f.Evidence.Short(), time.UnixMilli(f.At).UTC().Format("2006-01-02 15:04:05 MST"), bound)
	p("chip", "%s", f.Instance.Hex())
	if f.TCB != "" {
		p("firmware", "%s", terminal.Clean(f.TCB, 128))
	}
	if f.Until != 0 {
		p("vouched for", "until %s", time.UnixMilli(f.Until).UTC().Format("2006-01-02"))
	}
	p("appraisal", "%s", terminal.Clean(string(f.Status), 16))
	for i, name := range claims {
		if v := f.Trust.Values()[i]; v != 0 {
			p("", "%-18s %s (%d)", name, workload.TierOf(v), v)
		}
	}
	for i, m := range f.Measurements {
		p(map[bool]string{true: "measured"}[i == 0], "%s", terminal.Clean(m.String(), 200))
	}
}

var claims = [...]string{"instance-identity", "configuration", "executables", "file-system", "hardware", "runtime-opaque", "storage-opaque", "sourced-data"}

func writeTold(out *strings.Builder, told []api.Told) {
	if len(told) == 0 {
		out.WriteString("\nNobody else has asked this machine yet.\n")
		return
	}
	out.WriteString("\nIt proved (the last 64 times are kept)\n")
	for _, t := range told {
		fmt.Fprintf(out, "  %-4s to %s at %s", terminal.Clean(string(t.Kind), 8), nodeName(t.Name, t.To), t.At.UTC().Format("2006-01-02 15:04:05 MST"))
		if !t.Workload.IsZero() {
			fmt.Fprintf(out, " for workload %s", t.Workload.Short())
		}
		out.WriteString("\n")
	}
}

// meanings say what a level is worth, in short; docs/threat-model.md says it in full.
var meanings = map[workload.Level]struct{ does, not string }{
	workload.LevelNone: {
		"this node's word is all there is for what machine it is and what runs there.",
		"say that the machine is bad: most have no such hardware, or nobody has set it up.",
	},
	workload.LevelTPM: {
		"a genuine TPM signed, for this question alone, what the machine's firmware\n                and kernel said they loaded; compare it with --measurement.",
		"hide anything from the machine's owner: root there reads and changes all\n                work, and can have the chip sign for a node elsewhere.",
	},
	workload.LevelSGX: {
		"Intel vouches that an enclave, a program in encrypted memory, signed this\n                question; mrenclave is the digest of its code, mrsigner of who made it.",
		"say that its code is good: compare mrenclave with --measurement. Who has the\n                machine in hand, with a device on its memory bus, can read it or\n                forge this (WireTap, Battering RAM).",
	},
	workload.LevelTDX: {
		"Intel vouches that a virtual machine with encrypted memory signed, for this\n                question alone, what it was launched with (mrtd) and then loaded (rtmr).",
		"say that this is good: compare both with --measurement. Who is root inside\n                reads all work. Who has the machine in hand, with a device on its\n                memory bus, can read it or forge this (TEE.fail).",
	},
	workload.LevelSNP: {
		"AMD vouches that a virtual machine with encrypted memory signed, for this\n                question alone, the digest of what it was launched with.",
		"say that what was launched is good: compare launch with --measurement. Who is\n                root inside reads all work. Who has the machine in hand, with a device\n                on its memory bus, can read it or forge this (Battering RAM, TEE.fail).",
	},
}
