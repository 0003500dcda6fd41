// Command perrin-shim is the part of Perrin that runs in and beside a sandbox:
// the sandboxes' launcher, the wasm worker, the supervisor and the isolation
// self-test. It is small because every node runs several.
package main

import (
	"os"

	"github.com/perrin-mesh/perrin/workload/shim/role"
)

func main() { os.Exit(role.Run(os.Args[1:])) }
