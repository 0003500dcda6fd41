//go:build !embedshim

package vm

import "errors"

// embeddedGuest says that this build carries no init for guests.
func embeddedGuest() ([]byte, error) {
	return nil, errors.New("perrin was built without it (make build puts it in)")
}
