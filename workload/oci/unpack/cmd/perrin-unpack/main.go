// Command perrin-unpack unpacks one container image, in a sandbox. It is built
// into perrin (workload/shim) and not started by hand.
package main

import (
	"os"

	"github.com/perrin-mesh/perrin/workload/oci/unpack/unpacker"
)

func main() { os.Exit(unpacker.Serve()) }
