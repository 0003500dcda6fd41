package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/ristretto/v2/z"
)

// verify reads every table that the database counts on and checks its
// checksums. Badger itself reads them on goroutines of its own and ends the
// process when one does not decode. Tables that its manifest does not name are
// the remains of a crash and none of our business.
func verify(opts badger.Options) error {
	tables, err := countedTables(opts)
	if err != nil {
		return err
	}
	for id := range tables {
		if err := verifyTable(table.NewFilename(id, opts.Dir), opts); err != nil {
			return err
		}
	}
	return nil
}

// sweepEmpty removes log files that a crash left between their creation and
// their first byte. Badger does not open with them. Whether one of them once
// held something shows in the commit number.
func sweepEmpty(dir string) error {
	for _, pattern := range []string{"*.mem", "*.vlog"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, f := range files {
			if info, err := os.Stat(f); err != nil || info.Size() > 0 {
				continue
			}
			if err := os.Remove(f); err != nil {
				return readOnly(err)
			}
		}
	}
	return nil
}

// countedTables reads the manifest. Without one there must be no data either.
func countedTables(opts badger.Options) (map[uint64]badger.TableManifest, error) {
	f, err := os.Open(filepath.Join(opts.Dir, badger.ManifestFilename))
	if errors.Is(err, os.ErrNotExist) {
		return nil, wantEmpty(opts.Dir)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	manifest, _, err := badger.ReplayManifestFile(f, opts.ExternalMagicVersion, opts)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return manifest.Tables, nil
}

func wantEmpty(dir string) error {
	for _, pattern := range []string{"*.sst", "*.mem"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		if len(files) > 0 {
			return fmt.Errorf("%w: %q has no manifest", ErrCorrupt, dir)
		}
	}
	return nil
}

func verifyTable(path string, opts badger.Options) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: table %q does not decode", ErrCorrupt, path)
		}
	}()
	f, err := z.OpenMmapFile(path, os.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("%w: table %q: %w", ErrCorrupt, path, err)
	}
	t, err := table.OpenTable(f, table.Options{
		ReadOnly: true, BlockSize: opts.BlockSize, Compression: opts.Compression, ChkMode: options.OnTableRead,
	})
	if err != nil {
		return fmt.Errorf("%w: table %q: %w", ErrCorrupt, path, err)
	}
	return t.Close(-1)
}
