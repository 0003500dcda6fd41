package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/workload"
)

func (a *app) runCommand() *cobra.Command {
	var s shape
	var interactive bool
	cmd := &cobra.Command{
		Use:   "run [flags] -- PROGRAM [ARGS...]",
		Short: "Run a program on the mesh and return its exit code",
		Long: `Run a program on the mesh: its output comes here, and its exit code is returned.

PROGRAM is a .wasm file, a native program or script of yours (it is shipped), a
program under /usr, /bin or /sbin such as python3 (it is named, and a node
without it declines), a container image (oci:alpine:3.20, oci:app@sha256:…,
oci:./layout-folder or oci:./image.tar), or a virtual machine in which the
command after it is run (vm:KERNEL+ROOTFS: a Linux kernel, and a file system or
an initial RAM disk, or both, joined by +). An image's entry point, command, user,
variables and working directory hold; a tag is resolved once, here, with the
credentials of ` + "`docker login`" + `, and travels as a digest. Relative arguments that name files or folders below the
working directory are shipped too, and listed on stderr.

What the program writes below the folder $PERRIN_OUT comes back with --output.
Input that is piped in is streamed. Ctrl-C stops the workload; a second Ctrl-C
leaves it to itself and says how to come back. With no daemon running the
program runs on a mesh of one node inside this command.`,
		Example: examples(
			"perrin run -- echo hi",
			"perrin run -- python3 train.py --epochs 3",
			"perrin run --cores 4 --memory 2GiB --output results -- ./simulate params.json",
			"perrin run --threads 1 --max-price 500 --where 'arch==amd64 && zone!=attic' -- render.wasm frame.png",
			"zcat big.gz | perrin run -- wc -l",
			"perrin run -- oci:alpine:3.20 sh -c 'cat /etc/os-release'",
			"perrin run -- oci:./image.tar train data.csv",
			"perrin run --isolation gvisor -- oci:alpine:3.20 sh -c dmesg",
			"perrin run --spare 2 -- ./render frame.blend",
			"perrin run --memory 1GiB -- vm:vmlinuz+initrd.img+root.ext4 -- uname -r",
			"perrin run --seal --secret token=token.txt -- ./report data.csv",
			"perrin run --countersign -- ./report data.csv",
			"perrin run --require tpm --seal --secret token=token.txt -- ./report",
			"perrin run --seal --seal-helpers 2of3 --detach -- ./train model.bin",
			"perrin run --verify-by 2of3 -- render.wasm frame.png",
			"ID=$(perrin run --detach -- sleep 60); perrin wait $ID"),
		Args:              cobra.ArbitraryArgs,
		Annotations:       map[string]string{answersForProgram: "yes"},
		ValidArgsFunction: completeFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			args, err := s.spare.word(cmd.Flags(), args)
			if err != nil {
				return flagError(cmd, err)
			}
			return a.run(cmd.Context(), &s, interactive, args)
		},
	}
	s.register(cmd.Flags())
	cmd.Flags().BoolVarP(&interactive, "interactive", "i", false, "stream stdin even from a terminal")
	cmd.Flags().BoolVar(&a.json, "json", false, "with --detach: print JSON")
	cmd.Flags().SetInterspersed(false)
	a.tokenFlag(cmd)
	return cmd
}

func completeFiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

// job is a workload that is ready to be uploaded.
type job struct {
	spec    workload.Spec
	program program
	inputs  []localInput
}

// prepare checks everything that can be checked without a mesh.
func (a *app) prepare(s *shape, args []string) (*job, error) {
	if len(args) == 0 {
		return nil, usagef("perrin run -- echo hi", "no PROGRAM is given")
	}
	spec, err := s.spec(a.env)
	if err != nil {
		return nil, err
	}
	p, err := findProgram(args[0], a.env)
	if err == nil && s.allowTCG {
		err = p.allowTCG()
	}
	if err == nil {
		err = p.isolate(s.isolation)
	}
	if err != nil {
		return nil, err
	}
	if p.Kind.Virtual() {
		args = append(args[:1:1], command(args[1:])...)
		if len(args) == 1 {
			return nil, usagef(virtualHint, "name the command to run in the virtual machine")
		}
	}
	given, err := givenInputs(s.inputs)
	if err != nil {
		return nil, err
	}
	spec.Program, spec.Args = p.Program, args[1:]
	if spec.Name == "" && spec.Seal == nil { // else all could read it
		spec.Name = p.Name
	}
	if err := checkSpec(spec); err != nil {
		return nil, err
	}
	p.placeOn(&spec)
	return &job{spec, p, given}, checkSpec(spec)
}

// addAutoInputs ships what the arguments name and lists it.
func (a *app) addAutoInputs(j *job) error {
	args := j.spec.Args
	if j.program.image != nil { // an absolute path is one of the image
		args = slices.DeleteFunc(slices.Clone(args), filepath.IsAbs)
	}
	found, notes, err := autoInputs(args)
	if err != nil {
		return err
	}
	merged, err := merge(j.inputs, found)
	if err != nil {
		return err
	}
	for _, in := range merged[min(len(j.inputs), len(merged)):] {
		a.note("shipping %s", in)
	}
	for _, n := range notes {
		a.note("%s", n)
	}
	j.inputs = merged
	return nil
}

func (a *app) run(ctx context.Context, s *shape, interactive bool, args []string) error {
	j, err := a.prepare(s, args)
	if err != nil {
		return err
	}
	if err := checkOutput(s.output); err != nil {
		return err
	}
	if s.detach && s.output != "" {
		return usagef("perrin wait ID, then perrin logs ID", "--detach and --output exclude each other")
	}
	if j.inputs, err = merge(j.inputs); err != nil {
		return err
	}
	if !s.noAutoInput {
		if err := a.addAutoInputs(j); err != nil {
			return err
		}
	}
	stdin := a.pipedInput(interactive)
	j.spec.Interactive = stdin != nil && !s.detach && j.spec.VerifyBy == nil
	b, err := a.connectForRun(ctx, s, j)
	if err != nil {
		return err
	}
	defer b.close()
	if j.program.note != "" {
		a.note("%s", j.program.note)
	}
	return a.runOn(ctx, b, j, s, stdin)
}

// connectForRun is connectOrEmbed for run and map.
func (a *app) connectForRun(ctx context.Context, s *shape, j *job) (*backend, error) {
	b, err := a.connectOrEmbed(ctx, j.spec.Program.Kind, needsDaemon(s, j))
	if err != nil {
		return nil, err
	}
	if err := neverFits(ctx, b, &j.spec.Resources); err != nil {
		b.close()
		return nil, err
	}
	return a.sealOrClose(ctx, b, s, j)
}

// neverFits says what a task wants beyond what there is of it in a mesh that ends
// with this command, where waiting for another node is in vain; nil in any other.
func neverFits(ctx context.Context, b *backend, want *workload.Resources) error {
	if !b.embedded {
		return nil
	}
	st, err := b.Status(ctx, false)
	if err != nil {
		return err
	}
	total := st.Capacity.Total
	if total.Slots == 0 {
		return nil // the node has not offered anything yet
	}
	cpus, of := total.Cores, "physical core"
	if want.Class != workload.Core {
		cpus, of = total.Threads, "thread"
	}
	const hint = "ask for less, or start daemons on several machines: `perrin init`, then `perrin up`"
	switch {
	case want.CPUs > cpus:
		return usagef(hint, "there is no daemon here, and this machine has %s of the %d wanted", terminal.Plural(int(cpus), of), want.CPUs)
	case want.Memory > total.Memory:
		return usagef(hint, "there is no daemon here, and this machine lends %s of memory of the %s wanted", terminal.Size(total.Memory), terminal.Size(want.Memory))
	}
	return nil
}

// needsDaemon says what of a job a mesh cannot do that ends with this command; nil
// when it can do all.
func needsDaemon(s *shape, j *job) error {
	switch {
	case s.detach:
		return usagef("start a daemon first: `perrin init`, then `perrin up`", "--detach needs a daemon: the mesh inside this command ends with it")
	case j.spec.VerifyBy != nil:
		return usagef("start daemons on several machines: `perrin init`, then `perrin up`", "--verify-by %s: there is no daemon here, and the mesh inside this command has one node", j.spec.VerifyBy)
	case j.program.unknown:
		return &failure{code: exitNotFound, err: errNoProgram(j.program.Host), hint: "check the spelling, or give the path of your own program"}
	}
	return nil
}

// sealOrClose is sealWith for run and map.
func (a *app) sealOrClose(ctx context.Context, b *backend, s *shape, j *job) (*backend, error) {
	sealed, err := a.sealWith(ctx, b, s.seal.helpers, &j.spec)
	if err != nil {
		b.close()
	}
	return sealed, err
}

// runOn uploads, submits, follows and gathers.
func (a *app) runOn(ctx context.Context, b *backend, j *job, s *shape, stdin io.Reader) error {
	var submitted workload.ID
	err := a.interruptible(ctx, func(ctx context.Context) error {
		var err error
		submitted, err = a.submitJob(ctx, b, j, s.detach, stdin)
		return err
	})
	if err != nil {
		return err
	}
	if s.detach {
		return a.printID(submitted)
	}
	f := &follower{app: a, b: b, id: submitted, stdin: stdin}
	w, err := f.follow(ctx)
	if err != nil {
		return err
	}
	a.noteChecked(w)
	return a.concludeRun(ctx, b, w, s.output, f.interrupted)
}

// submitJob uploads the program, the inputs and a detached stdin, and submits.
func (a *app) submitJob(ctx context.Context, b *backend, j *job, detached bool, stdin io.Reader) (workload.ID, error) {
	if err := a.uploadJob(ctx, newUploader(b, a.PackTree), j); err != nil {
		return workload.ID{}, err
	}
	var err error
	if f, ok := stdin.(*os.File); ok && detached && isRegular(f) || stdin != nil && j.spec.VerifyBy != nil {
		if j.spec.Stdin, err = b.PutBlob(ctx, stdin); err != nil {
			return workload.ID{}, err
		}
	}
	sub, err := b.Submit(ctx, j.spec)
	if err != nil {
		return workload.ID{}, err
	}
	if sub.Note != "" {
		a.note("%s", sub.Note)
	}
	return sub.ID, nil
}

// uploadJob stores the program and the inputs and names them in the spec.
func (a *app) uploadJob(ctx context.Context, up *uploader, j *job) error {
	var err error
	if j.program.image != nil {
		if err := a.putImage(ctx, up, j); err != nil {
			return err
		}
	}
	if j.program.path != "" {
		if j.spec.Program.Blob, err = up.put(ctx, j.program.path, workload.File); err != nil {
			return err
		}
	}
	j.spec.Program.Parts = nil
	for _, part := range j.program.parts {
		ref, err := up.put(ctx, part, workload.File)
		if err != nil {
			return err
		}
		j.spec.Program.Parts = append(j.spec.Program.Parts, ref)
	}
	j.spec.Inputs, err = up.inputs(ctx, j.inputs)
	return err
}

func (a *app) printID(id workload.ID) error {
	if a.json {
		return a.printJSON(map[string]workload.ID{"id": id})
	}
	_, err := io.WriteString(a.stdout, id.String()+"\n")
	return err
}

// pipedInput returns what is piped into the command, or nil: a terminal or
// /dev/null is not streamed unless asked for.
func (a *app) pipedInput(interactive bool) io.Reader {
	f, ok := a.stdin.(*os.File)
	if !ok || interactive {
		return a.stdin
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice != 0 {
		return nil
	}
	return f
}

func isRegular(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode().IsRegular()
}
