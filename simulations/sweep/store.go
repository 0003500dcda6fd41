package sweep

import (
	"bytes"
	"crypto/sha256"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/perrin-mesh/perrin/simulations/model"
)

// format is the version of a replication's file. Another one is run again.
const format = 1

// Names within a sweep's folder.
const (
	fileSweep      = "sweep.json"
	fileExperiment = "experiment.yaml"
	fileSummary    = "summary.csv"
	folderCells    = "cells"
	folderRuns     = "runs"
	fileLock       = ".lock"
)

// ErrBusy is returned when another process writes to the folder.
var ErrBusy = errors.New("another sweep is writing to this folder")

// store is a sweep's folder while it is written.
type store struct {
	dir  string
	lock *os.File
}

// open makes a sweep's folder, or takes one that is there, for this process alone.
func open(dir string) (*store, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, fileSweep)); len(entries) > 0 && err != nil {
		return nil, fmt.Errorf("%s is there and not a sweep's folder: %w", dir, fs.ErrExist)
	}
	for _, sub := range []string{folderCells, folderRuns} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	lock, err := os.OpenFile(filepath.Join(dir, fileLock), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", dir, ErrBusy), lock.Close())
	}
	return &store{dir, lock}, nil
}

func (s *store) close() error { return s.lock.Close() }

// key names what a cell's replications depend on.
func key(c *Cell, code string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s %d %s", format, c.Scenario.Hash(), c.Scenario.Seed, code))
	return hex.EncodeToString(sum[:8])
}

// replication is what one run came to and what it took.
type replication struct {
	Result *model.Result
	CPU    time.Duration // of its thread, without the collector's
}

func (s *store) run(key string, n int) string {
	return filepath.Join(s.dir, folderRuns, key, fmt.Sprintf("%04d.run", n+1))
}

// save writes what a replication came to. After a crash the file is whole or not
// there.
func (s *store) save(key string, n int, r *replication) error {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(r); err != nil {
		return err
	}
	sum := sha256.Sum256(b.Bytes())
	to := s.run(key, n)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return replace(to, func(w io.Writer) error {
		_, err := w.Write(append(sum[:], b.Bytes()...))
		return err
	})
}

// replace writes a file beside its place and then moves it there.
func replace(to string, write func(io.Writer) error) error {
	f, err := os.Create(to + ".part")
	if err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(to+".part"))
	}
	return os.Rename(to+".part", to)
}

// load reads a replication that was saved; false when there is none that is whole
// and of the seed it should have.
func (s *store) load(key string, n int, seed uint64) (*replication, bool) {
	data, err := os.ReadFile(s.run(key, n))
	if err != nil || len(data) < sha256.Size {
		return nil, false
	}
	if sum := sha256.Sum256(data[sha256.Size:]); !bytes.Equal(sum[:], data[:sha256.Size]) {
		return nil, false
	}
	var r replication
	if err := gob.NewDecoder(bytes.NewReader(data[sha256.Size:])).Decode(&r); err != nil || r.Result == nil || r.Result.Seed != seed {
		return nil, false
	}
	return &r, true
}

func (s *store) writeJSON(name string, v any) error {
	return replace(filepath.Join(s.dir, name), func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	})
}
