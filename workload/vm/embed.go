//go:build embedshim

package vm

import "embed"

//go:embed all:embedded
var folder embed.FS

// embeddedGuest is the guest's init that this build carries.
func embeddedGuest() ([]byte, error) { return folder.ReadFile("embedded/perrin-guest") }
