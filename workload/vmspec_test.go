package workload

import (
	"strings"
	"testing"
)

// TestVirtualMachineSpecs: what a machine lacks is said by its field, before
// anything starts.
func TestVirtualMachineSpecs(t *testing.T) {
	ref := Ref{Digest: Digest{1}, Size: 1}
	for name, c := range map[string]struct {
		edit func(*Spec)
		want string // "" for none
	}{
		"good":              {func(*Spec) {}, ""},
		"emulated":          {func(s *Spec) { s.Program.Kind = EmulatedVM }, ""},
		"commands of tasks": {func(s *Spec) { s.Args, s.Tasks.Inline = nil, []Task{{Args: []string{"true"}}} }, ""},
		"no parts":          {func(s *Spec) { s.Program.Parts = nil }, "program.parts: "},
		"too many parts":    {func(s *Spec) { s.Program.Parts = make([]Ref, MaxVMParts+1) }, "program.parts: "},
		"an empty part":     {func(s *Spec) { s.Program.Parts = []Ref{ref, {}} }, "program.parts: a part has no content"},
		"no command":        {func(s *Spec) { s.Args = nil }, "args: "},
		"little memory":     {func(s *Spec) { s.Resources.Memory = MinVMMemory - 1 }, "memory: a virtual machine needs at least 128 MiB"},
		"many CPUs":         {func(s *Spec) { s.Resources.CPUs = MaxVMCPUs + 1 }, "cpus: "},
		"layers":            {func(s *Spec) { s.Program.Layers = []Ref{ref} }, "program.layers: "},
		"parts of another":  {func(s *Spec) { s.Program.Kind = Process }, "program.parts: a process program has none"},
		"named":             {func(s *Spec) { s.Program.Host, s.Program.Blob = "true", Ref{} }, "program.host: "},
	} {
		s := DefaultSpec()
		s.Program, s.Args = Program{Kind: VM, Blob: ref, Parts: []Ref{ref}}, []string{"true"}
		c.edit(&s)
		err := s.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
