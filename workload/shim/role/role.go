// Package role is what the shim can be: one small program with several lives,
// told apart by its first argument. It is linked into the shim itself and, for
// builds that carry no shim, into perrin and the tests.
package role

import (
	"fmt"
	"os"

	"github.com/perrin-mesh/perrin/workload/runner/watchdog"
	"github.com/perrin-mesh/perrin/workload/sandbox/inside"
	"github.com/perrin-mesh/perrin/workload/wasm/guest"
)

// Name is argv[0] of every shim process.
const Name = inside.ShimName

// Run lives the life that args[0] names and returns the exit code of the process.
func Run(args []string) int {
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, Name+": started by a Perrin node, not by hand")
		return 2
	}
	switch args[0] {
	case inside.RoleLaunch:
		return inside.Launch()
	case inside.RoleProbe:
		return inside.Probe()
	case inside.RoleGVisor:
		return inside.ProbeGVisor()
	case inside.RoleRoot:
		return inside.ProbeRoot()
	case watchdog.Role:
		return watchdog.Serve(args[1:])
	case guest.RoleCompile:
		return guest.Compile()
	case guest.RoleRun:
		return guest.Run()
	}
	fmt.Fprintf(os.Stderr, "%s: no role %.40q\n", Name, args[0])
	return 2
}
