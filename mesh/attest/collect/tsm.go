package collect

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// TSMFolder is where Linux 6.7 and later hands out reports of a confidential
// virtual machine (Documentation/ABI/testing/configfs-tsm-report).
const TSMFolder = "/sys/kernel/config/tsm/report"

// Bounds of what the kernel is read for; its firmware and host are not trusted.
const (
	maxReport  = 64 << 10
	maxAux     = 256 << 10
	tsmRetries = 5 // another process may use the entry that we made, once in a blue moon
)

// TSM is the kernel's folder of reports. A test has one that behaves so.
type TSM interface {
	Mkdir(name string) error
	Write(name, attribute string, b []byte) error
	Read(name, attribute string, max int) ([]byte, error)
	Remove(name string) error
}

// Folder is a TSM below a root.
type Folder struct{ Root string }

func (d Folder) path(parts ...string) string {
	return filepath.Join(append([]string{d.Root, TSMFolder}, parts...)...)
}

// Mkdir implements TSM.
func (d Folder) Mkdir(name string) error { return os.Mkdir(d.path(name), 0o700) }

// Remove implements TSM.
func (d Folder) Remove(name string) error { return os.Remove(d.path(name)) }

// Write implements TSM.
func (d Folder) Write(name, attribute string, b []byte) error {
	f, err := os.OpenFile(d.path(name, attribute), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// Read implements TSM.
func (d Folder) Read(name, attribute string, max int) ([]byte, error) {
	f, err := os.Open(d.path(name, attribute))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(max)+1))
	if err == nil && len(b) > max {
		return nil, fmt.Errorf("%s has more than %d bytes", attribute, max)
	}
	return b, err
}

// errNoTSM is returned when the kernel has no folder of reports.
var errNoTSM = errors.New("no folder of reports")

// entry makes an entry of the folder, and removes it when the work with it is done.
func entry(t TSM, work func(name string) error) error {
	var random [8]byte
	_, _ = rand.Read(random[:])
	name := "perrin-" + hex.EncodeToString(random[:])
	switch err := t.Mkdir(name); {
	case errors.Is(err, fs.ErrNotExist):
		return errNoTSM
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("this user may not make a folder in %s: run the daemon as root", TSMFolder)
	case err != nil:
		return fmt.Errorf("%s: %w", TSMFolder, err)
	}
	err := work(name)
	if gone := t.Remove(name); gone != nil && err == nil {
		err = fmt.Errorf("%s: %w", TSMFolder, gone)
	}
	return err
}

// provider names what makes the folder's reports: sev_guest or tdx_guest.
func provider(t TSM) (by string, err error) {
	err = entry(t, func(name string) error {
		b, err := t.Read(name, "provider", 64)
		by = strings.TrimSpace(string(b))
		return err
	})
	return by, err
}

// tsmReport has the kernel make a report of the data, and returns it with what
// the firmware or host gave along.
func tsmReport(t TSM, data [64]byte) (report, aux []byte, err error) {
	err = entry(t, func(name string) error {
		for range tsmRetries {
			var again bool
			if report, aux, again, err = tsmOnce(t, name, data); err != nil || !again {
				return err
			}
		}
		return fmt.Errorf("%s: somebody else keeps changing our entry", TSMFolder)
	})
	return report, aux, err
}

// tsmOnce makes one try; again is true when another process changed the entry meanwhile.
func tsmOnce(t TSM, name string, data [64]byte) (report, aux []byte, again bool, err error) {
	was, err := generation(t, name)
	if err != nil {
		return nil, nil, false, err
	}
	if err := t.Write(name, "inblob", data[:]); err != nil {
		return nil, nil, false, fmt.Errorf("ask for a report: %w", err)
	}
	if report, err = t.Read(name, "outblob", maxReport); err != nil {
		return nil, nil, false, fmt.Errorf("read the report: %w", err)
	}
	if aux, err = t.Read(name, "auxblob", maxAux); err != nil && !errors.Is(err, fs.ErrNotExist) {
		aux = nil // what came along is a help, not a need
	}
	is, err := generation(t, name)
	return report, aux, is != was+1, err
}

func generation(t TSM, name string) (uint64, error) {
	b, err := t.Read(name, "generation", 32)
	if err != nil {
		return 0, fmt.Errorf("generation of the report: %w", err)
	}
	return strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64)
}
