// Command perrin-guest is the init of a node's virtual machines. It is built
// into perrin and put into each machine's initial RAM disk.
package main

import (
	"os"

	"github.com/perrin-mesh/perrin/workload/vm/guest"
)

func main() { os.Exit(guest.Main()) }
