package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/vm/image"
)

// virtualKinds are the prefixes of a PROGRAM that is a virtual machine.
var virtualKinds = []workload.Kind{workload.VM, workload.EmulatedVM}

// virtualProgram splits a PROGRAM such as vm:KERNEL+ROOTFS; ok tells whether it is one.
func virtualProgram(arg string) (kind workload.Kind, files []string, ok bool) {
	for _, kind := range virtualKinds {
		if rest, is := strings.CutPrefix(arg, string(kind)+":"); is {
			return kind, strings.Split(rest, "+"), true
		}
	}
	return "", nil, false
}

const virtualHint = "perrin run -- vm:vmlinuz+root.ext4 -- /bin/sh -c 'echo hi'; a path with + in it needs a link without"

// findVirtual looks at the files of a virtual machine: a kernel, and what
// image.Recognise knows.
func findVirtual(kind workload.Kind, files []string) (program, error) {
	if len(files) == 1 && files[0] == "" {
		return program{}, usagef(virtualHint, "%s: the kernel and the root file system are missing: want %s:KERNEL+ROOTFS", kind, kind)
	}
	if len(files) == 1 {
		return program{}, usagef(virtualHint, "%s: %.200q is the kernel, and the root file system is missing: want %s:KERNEL+ROOTFS", kind, files[0], kind)
	}
	if len(files) > 1+workload.MaxVMParts {
		return program{}, usagef(virtualHint, "%s: want KERNEL+ROOTFS, a kernel and 1 to %d more files, got %d", kind, workload.MaxVMParts, len(files))
	}
	var heads [][]byte
	for _, file := range files {
		if err := travels(file); err != nil {
			return program{}, err
		}
		head, err := readHead(file, image.HeadLen)
		if err != nil {
			return program{}, unreadable(file, err)
		}
		heads = append(heads, head)
	}
	if _, err := image.Check(heads); err != nil {
		return program{}, wrongPart(files, err)
	}
	return program{Program: workload.Program{Kind: kind, Name: filepath.Base(files[0])}, path: files[0], parts: files[1:], arch: "amd64"}, nil
}

func wrongPart(files []string, err error) error {
	if part, ok := err.(*image.PartError); ok {
		return usagef("KERNEL is such as /boot/vmlinuz-*; the others are a bare file system (mkfs.ext4 -d, mksquashfs) or an initial RAM disk",
			"%s: %w", files[part.Part], part.Err)
	}
	return usagef(virtualHint, "%w", err)
}

// travels returns an error unless path is a file that can be shipped as a program.
func travels(path string) error {
	if path == "" {
		return usagef(virtualHint, "a file between + and + has no name")
	}
	info, err := os.Stat(path)
	if err != nil {
		return unreadable(path, err)
	}
	return travelsAs(path, info)
}

// command is what a virtual machine runs: the arguments, without the -- that
// may stand before them.
func command(args []string) []string {
	if len(args) > 0 && args[0] == "--" {
		return args[1:]
	}
	return args
}

// allowTCG lets a node emulate the processor of the program's machine.
func (p *program) allowTCG() error {
	if !p.Kind.Virtual() {
		return usagef("leave it out", "--allow-tcg: only for a virtual machine, vm:KERNEL+ROOTFS")
	}
	p.Kind = workload.EmulatedVM
	return nil
}

// noMachines says why a mesh inside this command cannot run kind.
func noMachines(kind workload.Kind, why string) error {
	hint := "`perrin status` says which programs a node runs, and why not others"
	if kind == workload.VM {
		hint = "--allow-tcg lets a node emulate the processor, many times slower and no stronger a wall than a process has"
	}
	return &failure{code: exitUnavailable, err: fmt.Errorf("this machine runs no %s programs: %s", kind, why), hint: hint}
}
