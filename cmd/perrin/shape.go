package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/specfile"
)

// shape is what run and map are told of a workload by flags.
type shape struct {
	name        string
	cores       int32
	threads     int32
	spare       spareCount
	share       bool
	cpuLimit    string
	memory      string
	disk        string
	pids        int32
	maxPrice    int64
	timeout     string
	env         []string
	inputs      []string
	output      string
	labels      []string
	where       string
	retries     uint32
	onPartition string
	keep        string
	noAutoInput bool
	detach      bool
	allowTCG    bool
	isolation   string

	seal    sealFlags
	require requireFlag
	verify  verifyFlag

	countersign bool

	given func(flag string) bool
	empty func() error // of the flags that must not be given without a value
}

func (s *shape) register(f *pflag.FlagSet) {
	s.given = f.Changed
	s.empty = func() error { return notEmpty(f, "where", "isolation", "seal-helpers", "require", "verify-by") }
	f.SortFlags = false
	f.StringVar(&s.name, "name", "", "a name for people (default: the program's)")
	f.Int32Var(&s.cores, "cores", 0, "physical cores for each task (default 1)")
	f.Int32Var(&s.threads, "threads", 0, "hyperthreads for each task, in place of cores")
	f.Var(&s.spare, "spare", "the idle time of a hyperthread, or of `N` of them, for each task: cheap, and taken back when anything else wants it")
	f.Lookup("spare").NoOptDefVal = spareBare
	f.BoolVar(&s.share, "share", false, "other owners who share too may run on the same cores")
	f.StringVar(&s.cpuLimit, "cpu-limit", "", "CPU time at most for each task, such as 20% of a thread or 1.5 threads")
	f.StringVar(&s.memory, "memory", "256MiB", "memory for each task; more ends it")
	f.StringVar(&s.disk, "disk", "1GiB", "scratch and output for each task")
	f.Int32Var(&s.pids, "pids", 256, "processes and threads at once for each task")
	f.Int64Var(&s.maxPrice, "max-price", 0, "micro-credits a second at most for each slot; 0 is no limit")
	f.StringVar(&s.timeout, "timeout", "10m", "time that the program may run, for one attempt; more ends it. Fetching, unpacking, compiling and booting before it do not count")
	f.StringArrayVarP(&s.env, "env", "e", nil, "NAME=VALUE, or NAME to pass this shell's value; repeatable")
	f.StringArrayVar(&s.inputs, "input", nil, "PATH or PATH:AS, a file or folder that the program finds, read-only, below its working directory; repeatable")
	f.StringVarP(&s.output, "output", "o", "", "a new or empty folder for what the program leaves behind")
	f.StringArrayVarP(&s.labels, "label", "l", nil, "NAME=VALUE, to find the workload again; repeatable")
	f.StringVar(&s.where, "where", "", "which nodes may run it, such as 'arch==amd64 && zone!=attic'")
	f.Uint32Var(&s.retries, "retries", 0, "tries more for a task whose program failed")
	f.StringVar(&s.onPartition, "on-partition", "stop", "what a cut-off node does: stop, or continue for work that may run twice")
	f.StringVar(&s.keep, "keep-inputs", "auto", "copy program and inputs to the voters: auto (up to 64 MiB) or all")
	f.BoolVar(&s.noAutoInput, "no-auto-input", false, "do not ship files that the arguments name")
	f.BoolVar(&s.allowTCG, "allow-tcg", false, "let a node without KVM emulate a virtual machine's processor: slow, and no wall by itself")
	f.StringVar(&s.isolation, "isolation", "", "the wall around an image's program: namespaces, on the machine's kernel (default), or gvisor, a kernel of its own in user space")
	s.seal.register(f)
	s.require.register(f)
	f.BoolVar(&s.countersign, "countersign", false, "start nothing before a majority of the cell's voters has cleared the auction again and signed that")
	s.verify.register(f)
	f.BoolVarP(&s.detach, "detach", "d", false, "print the ID and return")
}

// notEmpty refuses flags that are given without a value, as a script's unset variable
// leaves them: less would be asked for than was meant.
func notEmpty(f *pflag.FlagSet, names ...string) error {
	for _, name := range names {
		if f.Changed(name) && f.Lookup(name).Value.String() == "" {
			return usagef("is a variable of the script unset? To ask for nothing, leave the flag out", "--%s: it is empty", name)
		}
	}
	return nil
}

// spec returns the spec that the flags describe, without program and inputs.
func (s *shape) spec(getenv func(string) string) (workload.Spec, error) {
	spec := workload.DefaultSpec()
	if err := s.empty(); err != nil {
		return spec, err
	}
	spec.Name, spec.Where, spec.MaxPrice, spec.Retries = s.name, s.where, s.maxPrice, s.retries
	spec.Countersign = s.countersign
	spec.OnPartition, spec.Keep = workload.Partition(s.onPartition), workload.Keep(s.keep)
	for _, fill := range []func(*workload.Spec) error{s.fillResources, s.fillTimeout, s.seal.fill, s.require.fill, s.verify.fill} {
		if err := fill(&spec); err != nil {
			return spec, err
		}
	}
	var err error
	if spec.Env, err = environment(s.env, getenv); err != nil {
		return spec, err
	}
	spec.Labels, err = pairs("label", "NAME=VALUE", s.labels)
	return spec, err
}

func (s *shape) fillResources(spec *workload.Spec) error {
	r := &spec.Resources
	if err := s.fillClass(r); err != nil {
		return err
	}
	r.Pids, r.Share = s.pids, s.share
	var err error
	if s.given("cpu-limit") {
		if r.Quota, err = specfile.ParseQuota(s.cpuLimit); err != nil {
			return usagef("", "--cpu-limit: %w", err)
		}
	}
	if r.Memory, err = specfile.ParseSize(s.memory); err != nil {
		return usagef("", "--memory: %w", err)
	}
	if r.Disk, err = specfile.ParseSize(s.disk); err != nil {
		return usagef("", "--disk: %w", err)
	}
	if err := r.Validate(); err != nil {
		return usagef("`perrin nodes` shows what nodes have", "%s", flagName(err.Error(), r.Class))
	}
	return nil
}

// fillClass reads which kind of CPU is asked for, and how many.
func (s *shape) fillClass(r *workload.Resources) error {
	first := ""
	for _, kind := range []struct {
		flag  string
		class workload.Class
		cpus  int32
	}{{"cores", workload.Core, s.cores}, {"threads", workload.Thread, s.threads}, {"spare", workload.Spare, s.spare.n}} {
		switch {
		case !s.given(kind.flag):
			continue
		case first != "":
			return usagef("a task has whole cores, single threads or idle time", "--%s and --%s exclude each other", first, kind.flag)
		case kind.cpus < 1 || kind.cpus > workload.MaxCPUs:
			return usagef("without any of --cores, --threads and --spare a task gets one core", "--%s: want 1 to %d, got %d", kind.flag, workload.MaxCPUs, kind.cpus)
		}
		first, r.Class, r.CPUs = kind.flag, kind.class, kind.cpus
	}
	return nil
}

// flagName puts the flag's name in place of the field's.
func flagName(message string, class workload.Class) string {
	if rest, ok := strings.CutPrefix(message, "cpus: "); ok {
		return "--" + map[workload.Class]string{workload.Core: "cores", workload.Thread: "threads", workload.Spare: "spare"}[class] + ": " + rest
	}
	return "--" + message
}

func (s *shape) fillTimeout(spec *workload.Spec) error {
	d, err := specfile.ParseDuration(s.timeout)
	if err != nil {
		return usagef("", "--timeout: %w", err)
	}
	if d <= 0 || d > workload.MaxTimeout {
		return usagef("", "--timeout: want more than 0 and at most %d days, got %s", int(workload.MaxTimeout.Hours()/24), s.timeout)
	}
	spec.Timeout = max(1, d.Milliseconds())
	return nil
}

// environment reads NAME=VALUE, and NAME for the value it has here.
func environment(list []string, getenv func(string) string) (map[string]string, error) {
	env := map[string]string{}
	for _, item := range list {
		name, value, given := strings.Cut(item, "=")
		if name == "" {
			return nil, usagef("write --env NAME=VALUE", "--env: %.60q has no name", item)
		}
		if !given {
			value = getenv(name)
		}
		env[name] = value
	}
	return env, nil
}

// pairs reads a list of what a flag takes: NAME=VALUE, NAME=FILE.
func pairs(flag, want string, list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, item := range list {
		name, value, ok := strings.Cut(item, "=")
		if !ok || name == "" {
			return nil, usagef(fmt.Sprintf("write --%s %s", flag, want), "--%s: want %s, got %.60q", flag, want, item)
		}
		out[name] = value
	}
	return out, nil
}

// checkSpec validates a spec whose blobs are not known yet, so that what is
// wrong is said before anything is uploaded or started.
func checkSpec(spec workload.Spec) error {
	if spec.Program.Host == "" && spec.Program.Blob.IsZero() {
		spec.Program.Blob = workload.Ref{Digest: workload.Digest{1}}
	}
	if spec.Program.Kind.Virtual() {
		spec.Program.Parts = []workload.Ref{spec.Program.Blob}
	}
	if err := spec.Validate(); err != nil {
		hint := ""
		if strings.HasPrefix(err.Error(), "where: ") {
			hint = "a condition looks like 'arch==amd64 && cores>=8 && zone!=attic'"
		}
		return usagef(hint, "%s", strings.NewReplacer("_", "-").Replace("--"+err.Error()))
	}
	return nil
}
