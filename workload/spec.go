package workload

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// Kind is the runner a program needs.
type Kind string

// The runners of this version.
const (
	Wasm    Kind = "wasm"
	Process Kind = "process"
	OCI     Kind = "oci"
	// GVisor is an image whose system calls gVisor answers in place of the machine's kernel.
	GVisor Kind = "oci-gvisor"
	// VM is a Linux kernel with its parts, on a processor's own virtualization.
	VM Kind = "vm"
	// EmulatedVM is a VM whose processor a node may emulate: many times slower,
	// and no stronger a wall than a process has.
	EmulatedVM Kind = "vm-tcg"
)

// Image reports whether programs of the kind are container images.
func (k Kind) Image() bool { return k == OCI || k == GVisor }

// Virtual reports whether programs of the kind are virtual machines.
func (k Kind) Virtual() bool { return k == VM || k == EmulatedVM }

// Program is what a workload runs: content that travels with it, or the name
// of a program that a node must already have. For a container image Blob is its
// record (manifest and configuration) and Layers are its layers, the lowest first.
type Program struct {
	Kind Kind   `cbor:"1,keyasint" json:"kind" max:"16"`
	Name string `cbor:"2,keyasint" json:"name" max:"255"`            // base name, for people and argv[0]
	Blob Ref    `cbor:"3,keyasint" json:"blob"`                      // the content; zero when Host is set
	Host string `cbor:"4,keyasint" json:"host,omitempty" max:"4096"` // absolute path under /usr or /bin, or a bare name to look up there

	Layers []Ref `cbor:"5,keyasint,omitempty" json:"layers,omitempty" max:"128"` // of an image alone
	Parts  []Ref `cbor:"6,keyasint,omitempty" json:"parts,omitempty" max:"4"`    // of a virtual machine, whose kernel Blob is: a file system for its disk, archives for its initial RAM disk
}

// InputKind says how an input's blob becomes files.
type InputKind string

// A File input is the content of one file. A Tree input is a deterministic tar
// archive of a folder, unpacked at Path.
const (
	File InputKind = "file"
	Tree InputKind = "tree"
)

// Input is one file or folder that a task sees, read-only, at Path below its
// working directory.
type Input struct {
	Path string    `cbor:"1,keyasint" json:"path" max:"1024"` // slash-separated, relative, clean
	Kind InputKind `cbor:"2,keyasint" json:"kind" max:"8"`
	Blob Ref       `cbor:"3,keyasint" json:"blob"`
	Exec bool      `cbor:"4,keyasint,omitempty" json:"exec,omitempty"`
}

// Task is what one task of a workload has of its own, beside what the spec
// gives to all.
type Task struct {
	Args   []string `cbor:"1,keyasint,omitempty" json:"args,omitempty" max:"1024"`
	Inputs []Input  `cbor:"2,keyasint,omitempty" json:"inputs,omitempty" max:"64"`
	Name   string   `cbor:"3,keyasint,omitempty" json:"name,omitempty" max:"1024"`
}

// Tasks is how a spec lists its tasks: none (one task, nothing of its own),
// inline (up to MaxInlineTasks), or a blob that holds a TaskTable.
type Tasks struct {
	Count  uint32 `cbor:"1,keyasint" json:"count"` // 1 to MaxTasks
	Inline []Task `cbor:"2,keyasint,omitempty" json:"inline,omitempty" max:"64"`
	Table  Ref    `cbor:"3,keyasint" json:"table"`
}

// TaskTable is the content of the blob that Tasks.Table names.
type TaskTable struct {
	Tasks []Task `cbor:"1,keyasint" json:"tasks" max:"1000000"`
}

// After is a workload that must have succeeded before this one starts. Its
// gathered outputs appear, read-only, below "after/Name" in each task's
// working directory.
type After struct {
	Workload ID     `cbor:"1,keyasint" json:"workload"`
	Name     string `cbor:"2,keyasint" json:"name" max:"255"`
}

// Partition is what a slot does when its node loses the cell.
type Partition string

// Stop ends the attempt at the end of its lease; Continue lets idempotent work
// run on.
const (
	Stop     Partition = "stop"
	Continue Partition = "continue"
)

// Keep is how far the programs and inputs of a workload are copied before its
// ID is given.
type Keep string

// KeepAuto copies to a majority of the voters up to KeepAutoLimit bytes; above
// that the workload leans on the node it was submitted from. KeepAll always copies.
const (
	KeepAuto Keep = "auto"
	KeepAll  Keep = "all"
)

// Bounds of a spec.
const (
	SpecVersion    = 1
	MaxTasks       = 1_000_000
	MaxInlineTasks = 64
	MaxRetries     = 100
	MaxTimeout     = 30 * 24 * time.Hour
	KeepAutoLimit  = 64 << 20
	MaxLabels      = 64
	MaxLayers      = 128 // of an image
)

// Spec is what an owner submits and signs.
type Spec struct {
	Version     uint16            `cbor:"1,keyasint" json:"version"`
	Mesh        MeshID            `cbor:"2,keyasint" json:"mesh"`
	Nonce       [16]byte          `cbor:"3,keyasint" json:"-"`
	Name        string            `cbor:"4,keyasint,omitempty" json:"name,omitempty" max:"255"`
	Labels      map[string]string `cbor:"5,keyasint,omitempty" json:"labels,omitempty" max:"64"`
	Program     Program           `cbor:"6,keyasint" json:"program"`
	Args        []string          `cbor:"7,keyasint,omitempty" json:"args,omitempty" max:"4096"`
	Env         map[string]string `cbor:"8,keyasint,omitempty" json:"env,omitempty" max:"512"`
	Inputs      []Input           `cbor:"9,keyasint,omitempty" json:"inputs,omitempty" max:"1024"`
	Tasks       Tasks             `cbor:"10,keyasint" json:"tasks"`
	Resources   Resources         `cbor:"11,keyasint" json:"resources"`
	MaxPrice    int64             `cbor:"12,keyasint" json:"max_price"`  // micro-credits per slot-second; 0 is no limit
	Timeout     int64             `cbor:"13,keyasint" json:"timeout_ms"` // of one attempt's program, from its start
	Where       string            `cbor:"14,keyasint,omitempty" json:"where,omitempty" max:"1024"`
	Retries     uint32            `cbor:"15,keyasint" json:"retries"`      // of a task whose program failed; a lost node does not count
	MaxParallel uint32            `cbor:"16,keyasint" json:"max_parallel"` // slots at once; 0 is as many as there are tasks
	OnPartition Partition         `cbor:"17,keyasint" json:"on_partition" max:"16"`
	After       []After           `cbor:"18,keyasint,omitempty" json:"after,omitempty" max:"64"`
	Keep        Keep              `cbor:"19,keyasint" json:"keep" max:"8"`
	Stdin       Ref               `cbor:"20,keyasint" json:"stdin"`                 // fed to every task; zero is none
	Interactive bool              `cbor:"21,keyasint,omitempty" json:"interactive"` // stdin is streamed to the single task by whoever attaches
	Created     int64             `cbor:"22,keyasint" json:"created_ms"`

	Seal        *Seal    `cbor:"30,keyasint,omitempty" json:"seal,omitempty"`
	Secrets     []Secret `cbor:"31,keyasint,omitempty" json:"secrets,omitempty" max:"64"` // in the sealed body alone
	Require     *Require `cbor:"32,keyasint,omitempty" json:"require,omitempty"`          // what each node that runs it must prove; nil is nothing
	Countersign bool     `cbor:"60,keyasint,omitempty" json:"countersign,omitempty"`      // awards wait for a majority of the voters to clear them again and sign that

	VerifyBy *VerifyBy `cbor:"40,keyasint,omitempty" json:"verify_by,omitempty"` // how many nodes run each task and must agree; nil is one
}

// DefaultSpec returns a spec of one task with every default filled in and no program.
func DefaultSpec() Spec {
	return Spec{
		Version: SpecVersion, Tasks: Tasks{Count: 1}, Resources: DefaultResources(),
		Timeout: (10 * time.Minute).Milliseconds(), OnPartition: Stop, Keep: KeepAuto,
	}
}

// Slots returns how many slots the workload wants at once when all its tasks are open.
func (s *Spec) Slots() uint32 {
	n := s.Tasks.Count
	if s.VerifyBy != nil {
		n *= s.VerifyBy.Agree
	}
	if s.MaxParallel > 0 {
		return min(s.MaxParallel, n)
	}
	return n
}

// Validate returns an error that names the first field that is wrong and the
// range it must be in. It does not look at blobs.
func (s *Spec) Validate() error {
	checks := []func() error{s.validateProgram, s.validateLimits, s.validateTasks, s.validateNames, s.validateSeal, s.validateVerify}
	if s.Sealed() {
		checks = []func() error{s.validatePublic, s.validateLimits, s.validateNames, s.validateSeal, s.validateVerify}
	}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spec) validateProgram() error {
	p := s.Program
	switch {
	case s.Version != SpecVersion:
		return fmt.Errorf("version: this node speaks %d, got %d", SpecVersion, s.Version)
	case p.Kind != Wasm && p.Kind != Process && !p.Kind.Image() && !p.Kind.Virtual():
		return fmt.Errorf("program.kind: %.20q has no runner in this version; want %q, %q, %q or %q", p.Kind, Wasm, Process, OCI, VM)
	case p.Host == "" && p.Blob.IsZero():
		return errors.New("program: missing; name a .wasm file or a program")
	case p.Host != "" && (p.Kind != Process || !p.Blob.IsZero()):
		return errors.New("program.host: only a native program that is not shipped can be named")
	case p.Host != "" && !HostProgram(p.Host):
		return fmt.Errorf("program.host: %.80q is not under /usr, /bin or /sbin", p.Host)
	case p.Kind.Virtual():
		return s.validateVM()
	case len(p.Parts) > 0:
		return fmt.Errorf("program.parts: a %s program has none", p.Kind)
	}
	return p.validateLayers()
}

func (p *Program) validateLayers() error {
	switch {
	case len(p.Layers) > 0 && !p.Kind.Image():
		return errors.New("program.layers: only an image has layers")
	case len(p.Layers) > MaxLayers:
		return fmt.Errorf("program.layers: want at most %d, got %d", MaxLayers, len(p.Layers))
	}
	for i, l := range p.Layers {
		if l.IsZero() || l.Size < 0 {
			return fmt.Errorf("program.layers: layer %d has no content", i+1)
		}
	}
	return nil
}

// What a virtual machine needs at least and has at most. Debian's kernel and
// our init leave a command about 60 MiB of 128; QEMU's microvm has at most 288
// processors, and more than 64 were never tried.
const (
	MinVMMemory = 128 << 20
	MaxVMCPUs   = 64
	MaxVMParts  = 4
)

func (s *Spec) validateVM() error {
	p, r := s.Program, s.Resources
	switch {
	case len(p.Parts) < 1 || len(p.Parts) > MaxVMParts:
		return fmt.Errorf("program.parts: a virtual machine has a kernel and 1 to %d more parts, got %d", MaxVMParts, len(p.Parts))
	case slices.ContainsFunc(p.Parts, Ref.IsZero):
		return errors.New("program.parts: a part has no content")
	case s.hasNoCommand():
		return errors.New("args: name the command to run in the virtual machine")
	case r.Memory < MinVMMemory:
		return fmt.Errorf("memory: a virtual machine needs at least %d MiB, got %d bytes", MinVMMemory>>20, r.Memory)
	case r.CPUs > MaxVMCPUs:
		return fmt.Errorf("cpus: a virtual machine has at most %d, got %d", MaxVMCPUs, r.CPUs)
	}
	return p.validateLayers()
}

// hasNoCommand reports whether no task can have any argument.
func (s *Spec) hasNoCommand() bool {
	return len(s.Args) == 0 && s.Tasks.Table.IsZero() && !slices.ContainsFunc(s.Tasks.Inline, func(t Task) bool { return len(t.Args) > 0 })
}

// HostProgram reports whether name may name a program of the node: an absolute
// clean path under /usr, /bin or /sbin, or a bare name.
func HostProgram(name string) bool {
	if !strings.Contains(name, "/") {
		return name != "" && name != "." && name != ".."
	}
	if path.Clean(name) != name {
		return false
	}
	for _, dir := range []string{"/usr/", "/bin/", "/sbin/"} {
		if strings.HasPrefix(name, dir) {
			return true
		}
	}
	return false
}

func (s *Spec) validateLimits() error {
	if err := s.Resources.Validate(); err != nil {
		return fmt.Errorf("resources.%w", err)
	}
	switch {
	case s.MaxPrice < 0:
		return fmt.Errorf("max_price: want 0 (no limit) or more, got %d", s.MaxPrice)
	case s.Timeout < 1 || s.Timeout > MaxTimeout.Milliseconds():
		return fmt.Errorf("timeout: want 1ms to %s, got %dms", MaxTimeout, s.Timeout)
	case s.Retries > MaxRetries:
		return fmt.Errorf("retries: want 0 to %d, got %d", MaxRetries, s.Retries)
	case s.OnPartition != Stop && s.OnPartition != Continue:
		return fmt.Errorf("on_partition: want %q or %q, got %.20q", Stop, Continue, s.OnPartition)
	case s.Keep != KeepAuto && s.Keep != KeepAll:
		return fmt.Errorf("keep: want %q or %q, got %.20q", KeepAuto, KeepAll, s.Keep)
	case s.Interactive && s.Tasks.Count != 1:
		return errors.New("interactive: only a workload of one task can stream its stdin")
	}
	return nil
}

func (s *Spec) validateTasks() error {
	t := s.Tasks
	switch {
	case t.Count < 1 || t.Count > MaxTasks:
		return fmt.Errorf("tasks.count: want 1 to %d, got %d", MaxTasks, t.Count)
	case len(t.Inline) > MaxInlineTasks:
		return fmt.Errorf("tasks.inline: want at most %d, got %d; use a table", MaxInlineTasks, len(t.Inline))
	case len(t.Inline) > 0 && (int(t.Count) != len(t.Inline) || !t.Table.IsZero()):
		return fmt.Errorf("tasks: count is %d, but %d are listed", t.Count, len(t.Inline))
	}
	for _, task := range t.Inline {
		if err := ValidateInputs(task.Inputs); err != nil {
			return fmt.Errorf("tasks.inline.%w", err)
		}
	}
	return ValidateInputs(s.Inputs)
}

func (s *Spec) validateNames() error {
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return fmt.Errorf("env: %.40q is not a variable's name", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Labels)) {
		if name == "" || len(name) > 63 {
			return fmt.Errorf("labels: %.80q: want a name of 1 to 63 bytes", name)
		}
	}
	seen := map[string]bool{}
	for _, a := range s.After {
		if a.Name == "" || strings.ContainsAny(a.Name, "/\x00") || a.Name == "." || a.Name == ".." || seen[a.Name] {
			return fmt.Errorf("after: %.40q: want a name of its own without slashes", a.Name)
		}
		seen[a.Name] = true
	}
	if err := s.Require.Validate(); err != nil {
		return err
	}
	_, err := ParseWhere(s.Where)
	return err
}

// ValidateInputs checks that every path is relative, clean and stays inside,
// and that no two inputs share a path.
func ValidateInputs(inputs []Input) error {
	seen := make(map[string]bool, len(inputs))
	for _, in := range inputs {
		clean := in.Path != "" && path.Clean(in.Path) == in.Path && !path.IsAbs(in.Path) &&
			in.Path != ".." && !strings.HasPrefix(in.Path, "../") && in.Path != "." && !strings.ContainsRune(in.Path, 0)
		switch {
		case !clean:
			return fmt.Errorf("inputs: path %.80q: want a relative path that stays inside the working directory", in.Path)
		case seen[in.Path]:
			return fmt.Errorf("inputs: path %.80q is given twice", in.Path)
		case in.Kind != File && in.Kind != Tree:
			return fmt.Errorf("inputs: kind of %.80q: want %q or %q", in.Path, File, Tree)
		case in.Blob.IsZero() || in.Blob.Size < 0:
			return fmt.Errorf("inputs: %.80q has no content", in.Path)
		}
		seen[in.Path] = true
	}
	return nil
}
