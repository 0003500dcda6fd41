package main

import "github.com/perrin-mesh/perrin/workload"

// isolation is what --isolation chooses for an image; every other kind of program
// has one wall.
var isolation = map[string]workload.Kind{"": workload.OCI, "namespaces": workload.OCI, "gvisor": workload.GVisor}

// isolate sets the wall around an image's program; "" leaves it as it is.
func (p *program) isolate(wall string) error {
	kind, known := isolation[wall]
	switch {
	case !known:
		return usagef("vm:KERNEL+ROOTFS runs in a virtual machine, and a .wasm file in its engine; both need no --isolation",
			"--isolation: want namespaces or gvisor, got %.40q", wall)
	case wall == "":
		return nil
	case !p.Kind.Image() && wall == "gvisor":
		return usagef("perrin run --isolation gvisor -- oci:alpine echo hi", "--isolation gvisor: only for an image, oci:NAME")
	case !p.Kind.Image():
		return usagef("leave it out", "--isolation: only for an image, oci:NAME")
	}
	p.Kind = kind
	return nil
}
